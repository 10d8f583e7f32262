//go:build vm

package scenario

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	// permitted is below what the datagrams of steady give on every kernel, and above
	// what is left of them without any function that can be shed: facts, owner, end and
	// first frame of some 20 a second.
	permitted = 250
	exitGuard = 5
	// guardFunctions are enough of a datagram's way over loopback, and few to attach.
	guardFunctions = `ip_(send_skb|local_out|output|finish_output2?|rcv|rcv_core|local_deliver|local_deliver_finish|protocol_deliver_rcu)|` +
		`__ip_(local_out|finish_output)|__dev_queue_xmit|netdev_core_pick_tx|validate_xmit_skb|netif_skb_features|skb_network_protocol|` +
		`dev_hard_start_xmit|loopback_xmit|eth_type_trans|(__)?netif_rx|netif_rx_internal|enqueue_to_backlog|` +
		`__netif_receive_skb(_one_core|_core)?|udp_queue_rcv_(one_)?skb|__udp_enqueue_schedule_skb|skb_consume_udp`
)

// TestGuard lets datagrams give more events than are permitted: the busiest functions are
// shed, and named, and from then on fewer come, in traces that begin and end as before.
// Meanwhile the watchdog sees more CPU time than it allows: after twenty seconds it
// detaches, and what was gathered by then is there.
func TestGuard(t *testing.T) {
	tr := start(t, "--max-events", strconv.Itoa(permitted), "--max-cpu", "0.01", "--filter-func", guardFunctions, "udp dst port "+strconv.Itoa(portSteady))
	begin := time.Now()
	stop := make(chan struct{})
	sent := steady(t, stop)
	shedBy := lastShedding(tr)
	o := tr.end(t)
	took := time.Since(begin)
	t.Run("nothing left behind", checkClean) // while packets still come
	close(stop)
	t.Logf("%d datagrams; it ended after %v:\n%s", <-sent, took.Round(time.Millisecond), o.stderr)

	if o.exit != exitGuard || !regexp.MustCompile(`otel-kprobe: tracing took [0-9.e+]+% of a CPU, more than the 0\.01% of --max-cpu, .*all probes were detached`).MatchString(o.stderr) {
		t.Errorf("exit status %d, want %d and a sentence that says why", o.exit, exitGuard)
	}
	if took < 15*time.Second { // the first window begins when all is attached, which is known later
		t.Errorf("it ended after %v, want two windows of 10 s", took)
	}
	if s := &o.summary; s.CPUExceeded != 2 || s.FunctionsShed == 0 || s.FramesShed == 0 || s.Submitted == nil || *s.Submitted != s.Frames {
		t.Errorf("summary %+v", s)
	}
	if strings.Contains(o.stderr, "no function is left") {
		t.Error("shedding was not enough")
	}
	checkShedTraces(t, o, shedBy, shedFunctions(t, o))
}

// lastShedding waits until the tracer ends, and gives when it shed functions the last
// time: where the machine gets faster after a start, that is not the first time.
func lastShedding(tr *tracer) (at time.Time) {
	said := 0
	for ticks := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-tr.exited:
			ticks.Stop()
			return at
		case now := <-ticks.C:
			if n := strings.Count(tr.stderr.String(), "are shed"); n > said {
				said, at = n, now
			}
		}
	}
}

// shedFunctions are those that the log names, with their events a second.
func shedFunctions(t *testing.T, o *outcome) []string {
	t.Helper()
	var names []string
	for _, line := range regexp.MustCompile(`are shed.* functions="([^"]*)"`).FindAllStringSubmatch(o.stderr, -1) {
		for one := range strings.SplitSeq(line[1], ", ") {
			name, rate, _ := strings.Cut(one, " ")
			if n, err := strconv.Atoi(strings.TrimSuffix(rate, "/s")); err != nil || n < 1 {
				t.Errorf("%q has no rate", one)
			}
			names = append(names, name)
		}
	}
	if uint64(len(names)) != o.summary.FunctionsShed {
		t.Errorf("the log names %d functions, %d were shed", len(names), o.summary.FunctionsShed)
	}
	return names
}

// checkShedTraces expects traces before the shedding, and after it such that lack the
// functions that were shed, say so, and begin and end.
func checkShedTraces(t *testing.T, o *outcome, shedBy time.Time, shed []string) {
	t.Helper()
	var whole, marked, frames, most int
	var last time.Time
	eachTrace(t, o.output(), func(j *journey, _ ptrace.SpanSlice) {
		began := time.Unix(0, int64(j.root.start))
		isShed := j.root.attrs["otel_kprobe.shed"] == true
		if !isShed {
			whole++
			most = max(most, len(j.spans))
		}
		if began.Before(shedBy) {
			return // some functions are shed, and others not yet
		}
		marked++
		frames += len(j.spans)
		if last.Before(began) {
			last = began
		}
		for _, problem := range j.problems() {
			t.Errorf("%s: %s", j, problem)
		}
		if !isShed || len(j.spans) == 0 {
			t.Errorf("%s is shed: %v, %d frames", j, isShed, len(j.spans))
		}
		for i, s := range j.spans {
			if i > 0 && slices.Contains(shed, s.name) {
				t.Errorf("%s has a call of %s, which is shed", j, s.name)
			}
		}
	})
	seconds := last.Sub(shedBy).Seconds()
	t.Logf("%d traces with up to %d frames before; then %d with %.1f in %.1f s: %.0f frames a second",
		whole, most, marked, float64(frames)/float64(marked), seconds, float64(frames)/seconds)
	if whole == 0 || marked < 20 || float64(frames)/seconds > permitted || frames >= marked*most {
		t.Error("want traces of both kinds, and fewer frames than are permitted")
	}
}
