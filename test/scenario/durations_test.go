//go:build vm

package scenario

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The bound between our durations and those of ftrace's function_graph. Both
// tracers measure the same call, and both see all that is nested below, the
// handlers of either tracer included. They differ by the handlers of the call
// itself: the kernel runs one tracer's inside or outside of the other's two
// times. Under emulation ours take up to 45 µs, mostly 70 to 90 µs in
// dev_hard_start_xmit, where the skb has its link header and a device and its headers are
// read anew, and up to 150 µs in the first call of a journey, where the filter runs
// without direct loads; ftrace's take 5 to 15 µs.
// A virtual CPU that the host takes away between two readings, or an interrupt,
// adds anything up to some 10 ms to one of them: so a few calls may differ by
// more.
const (
	handlersNs   = 60_000
	newHeadersNs = 130_000
	firstCallNs  = 170_000
	shareOfCall  = 0.10
	agreeingPart = 0.90
)

// graphCall is one call as function_graph has it.
type graphCall struct {
	name       string
	exitNs     float64 // CLOCK_MONOTONIC, of its end
	durationNs float64
}

// TestDurations compares the durations of the same calls with ftrace's.
func TestDurations(t *testing.T) {
	functions := []string{"ip_output", "ip_rcv", "icmp_rcv", "dev_hard_start_xmit", "ip_local_deliver"}
	tr := start(t, "--filter-func", strings.Join(functions, "|"), "icmp")
	stopGraph := startGraph(t, functions)
	ping(t, leftNS, rightIP, 20)
	calls := stopGraph()
	all := readJourneys(t, tr.stop(t).output())

	var compared, agreed int
	var worst string
	for _, j := range all {
		for i, s := range j.spans {
			compared++
			begin := float64(j.root.number("otel_kprobe.start_mono_ns") + s.number("otel_kprobe.offset_ns"))
			ours := float64(s.number("otel_kprobe.duration_ns"))
			theirs, ok := findCall(calls, s.name, begin, begin+ours)
			bound := shareOfCall * theirs
			switch {
			case i == 0:
				bound += firstCallNs
			case s.name == "dev_hard_start_xmit":
				bound += newHeadersNs
			default:
				bound += handlersNs
			}
			if difference := ours - theirs; ok && difference <= bound && difference >= -bound {
				agreed++
			} else {
				// Without a call of its own (theirs is 0) ftrace missed it.
				worst += fmt.Sprintf("\n%s: %.0f ns, function_graph %.0f ns, bound %.0f", s.name, ours, theirs, bound)
			}
		}
	}
	t.Logf("%d of %d durations agree%s", agreed, compared, worst)
	if want := len(functions) * 2 * 20 * 3 / 4; compared < want {
		t.Errorf("only %d calls to compare, want at least %d", compared, want)
	}
	if float64(agreed) < agreeingPart*float64(compared) {
		t.Errorf("%d of %d durations agree with function_graph's, want %.0f %%", agreed, compared, 100*agreeingPart)
	}
}

// findCall returns the duration of the call whose end is nearest to ours and
// that overlaps it.
func findCall(calls []graphCall, name string, begin, end float64) (float64, bool) {
	found := slices.DeleteFunc(slices.Clone(calls), func(c graphCall) bool {
		return c.name != name || c.exitNs < begin || c.exitNs-c.durationNs > end
	})
	if len(found) == 0 {
		return 0, false
	}
	distance := func(c graphCall) float64 { return max(c.exitNs-end, end-c.exitNs) }
	nearest := slices.MinFunc(found, func(a, b graphCall) int { return cmp.Compare(distance(a), distance(b)) })
	return nearest.durationNs, true
}

// startGraph turns function_graph on for the functions; the function that it
// returns turns it off and reads the calls. Before Linux 6.11 only the top-level
// instance has this tracer.
func startGraph(t *testing.T, functions []string) func() []graphCall {
	t.Helper()
	write(t, tracefs, "trace_clock", "mono")
	write(t, tracefs, "set_ftrace_filter", strings.Join(traceable(t, functions...), "\n"))
	write(t, tracefs, "current_tracer", "function_graph")
	for _, option := range []string{"funcgraph-abstime", "funcgraph-tail", "nofuncgraph-irqs", "funcgraph-cpu"} {
		write(t, tracefs, "trace_options", option)
	}
	write(t, tracefs, "trace", "")
	return func() []graphCall {
		write(t, tracefs, "tracing_on", "0")
		text, err := os.ReadFile(filepath.Join(tracefs, "trace"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, tracefs, "current_tracer", "nop")
		write(t, tracefs, "set_ftrace_filter", "")
		write(t, tracefs, "trace_clock", "local")
		write(t, tracefs, "tracing_on", "1")
		return parseGraph(t, string(text))
	}
}

// A leaf call ends in "name();", the end of any other in "} /* name */". A
// leaf's time is that of its entry.
var graphLine = regexp.MustCompile(`^\s*([0-9]+\.[0-9]+) \|\s+\d+\)\s+[^0-9|]?\s*([0-9.]+) us\s+\|\s+(?:(\S+)\(\);|} /\* (\S+?)(?: \[\S+\])? \*/)`)

func parseGraph(t *testing.T, text string) []graphCall {
	t.Helper()
	var calls []graphCall
	for line := range strings.Lines(text) {
		m := graphLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		us, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		c := graphCall{name: bare(m[3] + m[4]), exitNs: at * 1e9, durationNs: us * 1e3}
		if m[3] != "" {
			c.exitNs += c.durationNs
		}
		calls = append(calls, c)
	}
	if len(calls) == 0 {
		t.Fatalf("function_graph shows no call that this test can read:\n%.2000s", text)
	}
	return calls
}
