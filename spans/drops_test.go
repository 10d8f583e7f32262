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

// What a socket took in was delivered, also when no drop is about; what is sent
// on was forwarded, unless it came back to the host.
func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		name, want string
		build      func(j *testJourney)
	}{
		{"delivered", "delivered", func(j *testJourney) {
			j.in("ip_rcv", 0, func() { j.in("__sock_queue_rcv_skb", 0, nil) })
			j.in("skb_copy_datagram_iter", 0, nil)
		}},
		{"used up by the kernel", "consumed", func(j *testJourney) {
			j.in("ip_rcv", 0, func() { j.in("icmp_rcv", 0, nil) })
		}},
		{"only a tap saw it", "consumed", func(j *testJourney) {
			j.in("packet_rcv", 0, nil)
			j.in("ip_rcv", 0, nil)
		}},
		{"forwarded", "forwarded", func(j *testJourney) {
			j.in("ip_rcv", 0, func() { j.in("ip_forward", 0, func() { j.in("__dev_queue_xmit", 0, nil) }) })
		}},
		{"forwarded into the host", "consumed", func(j *testJourney) {
			j.in("ip_rcv", 0, func() { j.in("ip_forward", 0, func() { j.in("__dev_queue_xmit", 0, nil) }) })
			j.in("ip_rcv", 0, func() { j.in("tcp_v4_rcv", 0, nil) })
		}},
		{"sent", "consumed", func(j *testJourney) { j.in("ip_output", 0, func() { j.in("__dev_queue_xmit", 0, nil) }) }},
	} {
		j := newTestJourney(newFakeKernel(), 21)
		j.addFacts(echoRequest)
		c.build(j)
		j.end(event.EndConsumed, 0, 0)
		if tr := testBuilder(j.k).Build(&j.Journey); tr.End != c.want {
			t.Errorf("%s: end %q, want %q", c.name, tr.End, c.want)
		}
	}
}

func TestDropOfOneCopyIsNoErrorWhenASocketGotTheOther(t *testing.T) {
	cases := []struct {
		reader string
		end    string
		err    bool
	}{
		{"raw_rcv", "delivered", false},
		{"__sock_queue_rcv_skb", "delivered", false},
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
