//go:build vm

package scenario

import (
	"slices"
	"testing"
)

const (
	netemDelayNs = 20_000_000
	netemPings   = 20
	// netemShare is by how much the shortest wait may exceed the delay: the timer,
	// the softirq and our own handlers come on top. An emulated processor that the
	// host takes away makes others longer, by milliseconds.
	netemShare = 0.05
)

// TestQdiscWait delays packets in a qdisc and expects the wait of each as a span,
// none shorter than the delay.
func TestQdiscWait(t *testing.T) {
	must(t, "modprobe", "sch_netem") // before the start: later modules are not probed
	must(t, "ip", "netns", "exec", leftNS, "tc", "qdisc", "add", "dev", leftIf, "root", "netem", "delay", "20ms")
	t.Cleanup(func() { must(t, "ip", "netns", "exec", leftNS, "tc", "qdisc", "del", "dev", leftIf, "root") })
	tr := start(t, "icmp")
	ping(t, leftNS, rightIP, netemPings)
	o := tr.stop(t)
	checkSums(t, o, "file")

	requests := echoes(readJourneys(t, o.output()), leftIP, rightIP, 8)
	if len(requests) != netemPings {
		t.Fatalf("%d echo requests, want %d", len(requests), netemPings)
	}
	var waits []float64
	for _, j := range requests {
		for _, w := range j.waits {
			if w.text(keyWait) == "qdisc" {
				waits = append(waits, float64(w.number("otel_kprobe.duration_ns")))
			}
		}
	}
	// The timer that lets a packet go may come while a probe runs.
	if missing := netemPings - len(waits); missing < 0 || missing > 1 || missing == 1 && !o.leavesOut() {
		t.Fatalf("%d waits in a qdisc, want one for each of %d packets", len(waits), netemPings)
	}
	if shortest := slices.Min(waits); shortest < netemDelayNs || shortest > netemDelayNs*(1+netemShare) {
		t.Errorf("packets wait at least %.0f ns, want %d to %.0f %% more: %v", shortest, netemDelayNs, 100*netemShare, waits)
	}
}
