package spans

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// received is an answer that a soft interrupt queues and a program reads, or a
// thread of which nothing is known.
func received(k *fakeKernel, readerTGID uint32, reads string) *testJourney {
	j := newTestJourney(k, 16)
	j.tid = 0
	j.addFacts(func(f *event.Facts) { echoRequest(f); f.TGID, f.TID, f.Comm = 0, 0, fixed("swapper/0") })
	j.onSoftStack(func() { j.in("__netif_receive_skb", 0, func() { j.in("__sock_queue_rcv_skb", 0, nil) }) })
	j.tid = 77
	j.addFacts(func(f *event.Facts) { f.TGID, f.TID, f.Comm = readerTGID, 77, fixed("curl") })
	j.in(reads, 0, nil)
	j.end(event.EndConsumed, 0, 0)
	return j
}

func TestReader(t *testing.T) {
	for _, reads := range []string{"skb_copy_datagram_iter", "skb_consume_udp"} {
		t.Run(reads, func(t *testing.T) { checkReader(t, reads) })
	}
	k := newFakeKernel()
	for _, j := range []*testJourney{received(k, 0, "skb_copy_datagram_iter"), tcpDrop(k)} {
		trace := testBuilder(k).Build(&j.Journey)
		if events := trace.Root().Events; len(events) != 0 {
			t.Errorf("nobody read it: %+v", events)
		}
	}
}

func checkReader(t *testing.T, reads string) {
	k := newFakeKernel()
	trace := testBuilder(k).Build(&received(k, 70, reads).Journey)
	root := trace.Root()
	if trace.Direction != DirectionRx || len(root.Events) != 1 || root.Events[0].Name != "read" {
		t.Fatalf("direction %v, events %+v, want one of a reading", trace.Direction, root.Events)
	}
	for key, want := range map[Key]Attr{
		KeyProcessPID: IntAttr(KeyProcessPID, 70), KeyThreadID: IntAttr(KeyThreadID, 77), KeyThreadName: StringAttr(KeyThreadName, "curl"),
	} {
		if got := attr(t, trace, 0, key); got != want {
			t.Errorf("root: %+v, want %+v", got, want)
		}
	}
}
