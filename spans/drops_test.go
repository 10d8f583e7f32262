package spans

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// pingAnswer is the answer to a ping: a clone of it goes to a reader's
// function, and the kernel drops the original, for which no socket is left.
func pingAnswer(k *fakeKernel, reader string) *testJourney {
	j := newTestJourney(k, 11)
	j.addFacts(echoRequest)
	j.in("ip_local_deliver", 0, func() {
		j.skb = skbB
		j.in(reader, 0, nil)
		j.skb = skbA
		j.in("icmp_rcv", 1, func() { j.end(event.EndDropped, 3, k.fn("icmp_rcv")+0x1e) })
	})
	j.skb = skbB
	j.end(event.EndConsumed, 0, 0)
	return j
}

func TestDropOfOneCopyIsNoErrorWhenASocketGotTheOther(t *testing.T) {
	cases := []struct {
		reader string
		end    string
		err    bool
	}{
		{"raw_rcv", "consumed", false},
		{"__sock_queue_rcv_skb", "consumed", false},
		{"packet_rcv", "dropped", true}, // a tap sees it, nobody receives it
		{"tpacket_rcv", "dropped", true},
	}
	for _, c := range cases {
		k := newFakeKernel()
		tr := testBuilder(k).Build(&pingAnswer(k, c.reader).Journey)
		if tr.End != c.end || tr.Delivered == c.err || tr.DropReason != "NO_SOCKET" {
			t.Errorf("%s: end %q, delivered %v, reason %q", c.reader, tr.End, tr.Delivered, tr.DropReason)
		}
		for i := range tr.Spans {
			s := &tr.Spans[i]
			want := c.err && (i == 0 || i == int(tr.DropSpan))
			if s.Error != want {
				t.Errorf("%s: span %s has error %v, want %v", c.reader, s.Name, s.Error, want)
			}
		}
	}
}
