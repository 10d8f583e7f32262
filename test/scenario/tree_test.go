//go:build vm

package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/otel-kprobe/otel-kprobe/test/e2e"
)

// span is one span as the file has it.
type span struct {
	id, parent string // hexadecimal; the root has no parent
	name       string
	start, end uint64 // CLOCK_REALTIME, nanoseconds
	failed     bool   // status Error
	message    string // of the status
	state      string // of the trace
	attrs      map[string]any
	children   []*span // in the file's order
}

func (s *span) text(key string) string {
	v, _ := s.attrs[key].(string)
	return v
}

// number is -1 for an attribute that is not there.
func (s *span) number(key string) int64 {
	if v, ok := s.attrs[key].(int64); ok {
		return v
	}
	return -1
}

func (s *span) list(key string) []string {
	values, _ := s.attrs[key].([]any)
	var texts []string
	for _, v := range values {
		texts = append(texts, fmt.Sprint(v))
	}
	return texts
}

// journey is one trace: the root and every span below it in depth-first order.
type journey struct {
	id    string
	root  *span
	spans []*span // of frames, so without the root
	waits []*span
	reads []spanEvent // the root's, of which there is one at most
}

// functions are the names in the order of entry.
func (j *journey) functions() []string {
	names := make([]string, len(j.spans))
	for i, s := range j.spans {
		names[i] = s.name
	}
	return names
}

// calls returns the spans of one function.
func (j *journey) calls(function string) []*span {
	return slices.DeleteFunc(slices.Clone(j.spans), func(s *span) bool { return s.name != function })
}

// String names a journey in messages.
func (j *journey) String() string {
	return fmt.Sprintf("trace %s (%s, %s → %s, journey %v)", j.id, j.root.name,
		j.root.text("source.address"), j.root.text("destination.address"), j.root.attrs["otel_kprobe.journey"])
}

// eachTrace reads a file of OTLP/JSON lines and calls visit with each trace, as a
// tree and as it is. It checks that each is there once.
func eachTrace(t *testing.T, path string, visit func(*journey, ptrace.SpanSlice)) {
	t.Helper()
	traces, err := e2e.ReadTracesFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			j, err := newJourney(scope.Spans())
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if seen[j.id] {
				t.Errorf("trace %s is there twice", j.id)
			}
			seen[j.id] = true
			j.reads = slices.DeleteFunc(eventsOf(scope.Spans())[j.root.id], func(e spanEvent) bool { return e.name != "read" })
			visit(j, scope.Spans())
		}
	}
}

// readJourneys reads a file of OTLP/JSON lines and checks what every trace must
// be: a tree.
func readJourneys(t *testing.T, path string) []*journey {
	t.Helper()
	var journeys []*journey
	eachTrace(t, path, func(j *journey, _ ptrace.SpanSlice) {
		for _, problem := range j.problems() {
			t.Errorf("%s: %s", j, problem)
		}
		journeys = append(journeys, j)
	})
	slices.SortStableFunc(journeys, func(a, b *journey) int { return cmp.Compare(a.root.start, b.root.start) })
	return journeys
}

// newJourney links the spans of one line, which is one trace.
func newJourney(from ptrace.SpanSlice) (*journey, error) {
	if from.Len() == 0 {
		return nil, fmt.Errorf("a line without spans")
	}
	j := &journey{id: from.At(0).TraceID().String()}
	byID := map[string]*span{}
	for i, p := range from.All() {
		s := &span{
			id: p.SpanID().String(), parent: p.ParentSpanID().String(), name: p.Name(),
			start: uint64(p.StartTimestamp()), end: uint64(p.EndTimestamp()),
			failed: p.Status().Code() == ptrace.StatusCodeError, message: p.Status().Message(),
			state: p.TraceState().AsRaw(), attrs: p.Attributes().AsRaw(),
		}
		switch {
		case p.TraceID().String() != j.id:
			return nil, fmt.Errorf("spans of two traces on one line: %s and %s", j.id, p.TraceID())
		case byID[s.id] != nil:
			return nil, fmt.Errorf("trace %s: two spans have the id %s", j.id, s.id)
		case s.parent == "" && j.root != nil:
			return nil, fmt.Errorf("trace %s: two roots, %s and %s", j.id, j.root.name, s.name)
		case s.parent == "" && i > 0:
			return nil, fmt.Errorf("trace %s: the root is span %d of its line, not the first", j.id, i)
		case s.parent != "" && byID[s.parent] == nil:
			return nil, fmt.Errorf("trace %s: the parent of %s does not stand before it", j.id, s.name)
		}
		byID[s.id] = s
		if s.parent == "" {
			j.root = s
			continue
		}
		byID[s.parent].children = append(byID[s.parent].children, s)
		if s.text(keyWait) != "" {
			j.waits = append(j.waits, s)
			continue
		}
		j.spans = append(j.spans, s)
	}
	return j, nil
}

// problems says in what the trace is not a tree of calls in time.
func (j *journey) problems() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, parent := range append([]*span{j.root}, j.spans...) {
		if parent.end <= parent.start {
			add("%s ends %d ns after its start", parent.name, int64(parent.end-parent.start))
		}
		for i, s := range parent.children {
			if s.start < parent.start || s.end > parent.end {
				add("%s (%d to %d) sticks out of its parent %s (%d to %d)",
					s.name, s.start, s.end, parent.name, parent.start, parent.end)
			}
			if i > 0 && s.start < parent.children[i-1].start {
				add("%s starts before its elder sibling %s", s.name, parent.children[i-1].name)
			}
			if i > 0 && parent != j.root && s.start < parent.children[i-1].end && s.end-s.start > 1 {
				add("%s begins within its sibling %s", s.name, parent.children[i-1].name)
			}
		}
	}
	for _, s := range j.spans {
		all = append(all, j.callProblems(s)...)
	}
	all = append(all, j.waitProblems()...)
	if n := j.root.number("otel_kprobe.frame.count"); n != int64(len(j.spans)) {
		add("otel_kprobe.frame.count is %d, with %d functions", n, len(j.spans))
	}
	return all
}

// keyWait is the attribute of a wait's span.
const keyWait = "otel_kprobe.wait"

// waitProblems holds the waits against their sums on the root: each has a name and
// is a child of the root, which has the sum of each cause.
func (j *journey) waitProblems() []string {
	var all []string
	sums := map[string]int64{}
	for _, w := range j.waits {
		cause := w.text(keyWait)
		if w.name != "wait "+cause || w.parent != j.root.id {
			all = append(all, fmt.Sprintf("%q with parent %s is no wait for %q", w.name, w.parent, cause))
		}
		sums[strings.ReplaceAll(cause, " ", "_")] += w.number("otel_kprobe.duration_ns")
	}
	for cause, sum := range sums {
		if got := j.root.number(keyWait + "." + cause + ".duration_ns"); got != sum {
			all = append(all, fmt.Sprintf("the root has %d ns of waiting for %s, want %d", got, cause, sum))
		}
	}
	return all
}

// callProblems holds the exact numbers of a function's span against its times.
func (j *journey) callProblems(s *span) []string {
	var all []string
	if s.text("code.function.name") != s.name {
		all = append(all, fmt.Sprintf("%s has code.function.name %q", s.name, s.text("code.function.name")))
	}
	// A span is at least 1 ns long, and inside its parent: so up to 1 ns off.
	if offset := s.number("otel_kprobe.offset_ns"); absolute(int64(s.start-j.root.start)-offset) > 1 {
		all = append(all, fmt.Sprintf("%s starts at +%d with otel_kprobe.offset_ns %d", s.name, s.start-j.root.start, offset))
	}
	duration, known := s.attrs["otel_kprobe.duration_ns"].(int64)
	if known && absolute(int64(s.end-s.start)-duration) > 1 {
		all = append(all, fmt.Sprintf("%s lasts %d with otel_kprobe.duration_ns %d", s.name, s.end-s.start, duration))
	}
	if entryOnly := s.attrs["otel_kprobe.entry_only"] == true; known == entryOnly {
		all = append(all, fmt.Sprintf("%s: duration known: %v, entry only: %v", s.name, known, entryOnly))
	}
	return all
}

func absolute(v int64) int64 { return max(v, -v) }

// where selects journeys.
func where(all []*journey, keep func(*journey) bool) []*journey {
	return slices.DeleteFunc(slices.Clone(all), func(j *journey) bool { return !keep(j) })
}

// between selects the journeys of packets from one address to another.
func between(all []*journey, from, to string) []*journey {
	return where(all, func(j *journey) bool {
		return j.root.text("source.address") == from && j.root.text("destination.address") == to
	})
}

// echoes selects ICMP packets of a type and orders them by sequence number.
func echoes(all []*journey, from, to string, icmpType int64) []*journey {
	found := where(between(all, from, to), func(j *journey) bool {
		return j.root.number("otel_kprobe.icmp.type") == icmpType
	})
	slices.SortStableFunc(found, func(a, b *journey) int {
		return cmp.Compare(a.root.number("otel_kprobe.icmp.seq"), b.root.number("otel_kprobe.icmp.seq"))
	})
	return found
}

// port selects the journeys with a port at either end.
func port(all []*journey, number int64) []*journey {
	return where(all, func(j *journey) bool {
		return j.root.number("source.port") == number || j.root.number("destination.port") == number
	})
}
