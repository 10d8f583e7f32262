//go:build vm

package scenario

import (
	"fmt"
	"math"
	"slices"
	"strings"
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

// TestQdiscWait delays packets in a qdisc and expects the wait of each as a span, with
// the call that queued it no shorter than the delay. A sender whose processor stands
// still in between finds the packet due and sends it within the same call: no wait.
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
	// The delay counts from netem's look at the clock, which is within the call that queues;
	// the wait from that call's return.
	var shortest int64 = math.MaxInt64
	missing, atOnce := 0, 0
	for _, j := range requests {
		waits := slices.DeleteFunc(slices.Clone(j.waits), func(w *span) bool { return w.text(keyWait) != "qdisc" })
		queued := j.calls("netem_enqueue")
		if len(waits) == 0 && j.sentByItsSender() {
			atOnce++
			continue
		}
		if len(waits) != 1 || len(queued) != 1 {
			t.Logf("%s has %d waits in a qdisc, %d calls of netem_enqueue: %s", j, len(waits), len(queued), j.timeline())
			missing++
			continue
		}
		wait, whole := waits[0].number("otel_kprobe.duration_ns"), int64(waits[0].end-queued[0].start)
		if whole < netemDelayNs || waits[0].start < queued[0].end {
			t.Errorf("%s waits %d ns, %d with its queueing, want %d or more after it", j, wait, whole, netemDelayNs)
		}
		shortest = min(shortest, wait)
	}
	if atOnce > netemPings/2 {
		t.Errorf("%d of %d packets are sent within the call that queues them", atOnce, netemPings)
	}
	// The timer that lets a packet go may come while a probe runs.
	if missing > 1 || missing == 1 && !o.leavesOut() {
		t.Fatalf("%d waits are missing, want one for each of %d packets; kernel lost %v", missing, len(requests), o.summary.KernelLost)
	}
	if shortest > netemDelayNs*(1+netemShare) {
		t.Errorf("no packet waits less than %d ns, want %d to %.0f %% more", shortest, netemDelayNs, 100*netemShare)
	}
}

// sentByItsSender says that the packet left netem, after its delay and no sooner, while
// the call that had queued it went on.
func (j *journey) sentByItsSender() bool {
	queued, sent, senders := j.calls("netem_enqueue"), j.calls("sch_direct_xmit"), j.calls("__dev_queue_xmit")
	return len(queued) == 1 && len(sent) == 1 && len(senders) > 0 &&
		sent[0].start >= queued[0].start+netemDelayNs && sent[0].end <= senders[0].end
}

// timeline lists the spans with their begins and lengths, for messages.
func (j *journey) timeline() string {
	var b strings.Builder
	for _, s := range j.spans {
		fmt.Fprintf(&b, "\n\t%s +%d %d", s.name, s.start-j.root.start, s.end-s.start)
		if s.attrs["otel_kprobe.incomplete"] != nil {
			b.WriteString(" incomplete")
		}
	}
	return b.String()
}
