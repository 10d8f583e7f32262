package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// TestSettleNamespaces: without a device, an skb is still where its last one was.
func TestSettleNamespaces(t *testing.T) {
	const first, left, right = 1, 2, 3
	facts := func(skb uint64, ifindex, netns uint32) event.Facts {
		return event.Facts{Skb: skb, Ifindex: ifindex, NetNS: netns}
	}
	tr := &Trace{Facts: []event.Facts{
		facts(skbA, 0, left),  // of the socket that sends it
		facts(skbA, 4, left),  //
		facts(skbA, 0, first), // of a socket that has gone back
		facts(skbA, 0, 0),     // it has neither
		facts(skbA, 5, right), // through a veth pair
		facts(skbB, 0, first), // another skb
		facts(skbA, 0, first),
	}}
	tr.settleNamespaces()
	var got []uint32
	for i := range tr.Facts {
		got = append(got, tr.Facts[i].NetNS)
	}
	if diff := cmp.Diff([]uint32{left, left, left, 0, right, first, right}, got); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}
