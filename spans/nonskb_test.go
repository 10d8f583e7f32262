package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// inNoSkb is in for a function without an skb: the frame has what was known when
// the frame around it was entered.
func (j *testJourney) inNoSkb(name string, ret uint64) {
	j.in(name, ret, nil)
	f := &j.Frames[len(j.Frames)-1]
	f.Flags, f.Ordinal = event.FrameNoSkb, 0
	j.order[j.skb]--
}

// TestNoSkb expects the frame of a function without an skb below its caller,
// silent about the packet, and the rest of the trace as without it.
func TestNoSkb(t *testing.T) {
	packet := func(with bool) *testJourney {
		k := newFakeKernel()
		j := newTestJourney(k, 7)
		j.addFacts(echoRequest)
		call := func(name string, ret uint64) {
			if with {
				j.inNoSkb(name, ret)
				return
			}
			j.now += 150 // as long as in takes
		}
		j.in("ip_rcv", 0, func() {
			j.len = 98
			j.in("ip_route_input_slow", 0, func() {
				j.len = 84 // of ip_rcv
				call("fib_table_lookup", 0xfffffff5)
				j.len = 98
			})
			// It would begin a wait, and end one, if it had an skb.
			j.in("__udp_enqueue_schedule_skb", 0, func() { call("netif_rx", 0) })
			call("dev_queue_xmit", 0) // would make it a packet that is sent
		})
		j.now += 9000
		j.len = 56
		j.in("skb_copy_datagram_iter", 0, nil)
		j.end(event.EndConsumed, 0, 0)
		return j
	}
	build := func(with bool) *Trace { j := packet(with); return testBuilder(j.k).Build(&j.Journey) }
	got, plain := build(true), build(false)
	if got.Direction != plain.Direction || got.Waits != plain.Waits || got.Waits != 1 {
		t.Errorf("direction %s with %d waits, want %s with %d (1)", got.Direction, got.Waits, plain.Direction, plain.Waits)
	}
	for _, k := range []Key{KeySkbLenFirst, KeySkbLenLast, KeySkb, KeyDurationNs} {
		if diff := cmp.Diff(attr(t, plain, 0, k), attr(t, got, 0, k)); diff != "" {
			t.Errorf("root's %s (-without +with):\n%s", k, diff)
		}
	}
	var tree []string
	for i := range got.Spans {
		s := &got.Spans[i]
		if s.Frame.Flags&event.FrameNoSkb == 0 {
			continue
		}
		tree = append(tree, got.Spans[s.ParentIndex].Name+" > "+s.Name+" "+s.Stage.String())
		for _, a := range s.Attrs {
			if a.Key == KeySkb || a.Key == KeySkbLen || a.Key == KeySkbMark {
				t.Errorf("%s has %s", s.Name, a.Key)
			}
		}
		if attr(t, got, i, KeyNoSkb).Int != 1 {
			t.Errorf("%s does not say that it has no skb", s.Name)
		}
	}
	want := []string{
		"ip_route_input_slow > fib_table_lookup routing", "__udp_enqueue_schedule_skb > netif_rx receive", "ip_rcv > dev_queue_xmit device",
	}
	if diff := cmp.Diff(want, tree); diff != "" {
		t.Errorf("functions without an skb (-want +got):\n%s", diff)
	}
	if v := attr(t, got, 3, KeyReturn).Int; v != -11 {
		t.Errorf("fib_table_lookup returns %d, want -11", v)
	}
	// Lengths that change are those of the skb: 84, 98 and at last 56.
	for i := range got.Spans {
		if s := &got.Spans[i]; s.Name == "__udp_enqueue_schedule_skb" && s.Changed&ChangedLen != 0 {
			t.Errorf("%s: the length changes", s.Name)
		}
	}
}
