package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// queued is a datagram that waits in a qdisc, in a backlog and in a socket.
func queued(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 14)
	j.addFacts(echoRequest)
	j.in("ip_output", 0, func() {
		j.in("__dev_queue_xmit", 0, func() { j.in("netem_enqueue", 0, func() { j.in("tfifo_enqueue", 0, nil) }) })
	})
	j.now += 20_000
	j.onSoftStack(func() {
		j.in("dev_hard_start_xmit", 0, func() { j.in("__netif_rx", 0, func() { j.in("enqueue_to_backlog", 0, nil) }) })
	})
	j.now += 3_000
	j.onSoftStack(func() {
		j.in("__netif_receive_skb", 0, func() {
			j.in("udp_rcv", 0, func() { j.in("__udp_enqueue_schedule_skb", 0, nil) })
		})
	})
	j.now += 7_000
	j.in("skb_copy_datagram_iter", 0, nil)
	j.end(event.EndConsumed, 0, 0)
	return j
}

// waitsOf are the causes and durations of a trace's waits, in their order.
func waitsOf(t *testing.T, j *testJourney) (waits []string, ns []uint64) {
	t.Helper()
	trace := testBuilder(j.k).Build(&j.Journey)
	for i := range trace.Spans {
		s := &trace.Spans[i]
		if !s.Wait {
			continue
		}
		waits, ns = append(waits, s.Name), append(ns, s.ExitMonoNs-s.EnterMonoNs)
		if s.StartUnixNs < trace.Spans[0].StartUnixNs || s.EndUnixNs > trace.Spans[0].EndUnixNs || s.ParentIndex != 0 {
			t.Errorf("%s from %d to %d is not within the root", s.Name, s.StartUnixNs, s.EndUnixNs)
		}
	}
	if len(waits) != trace.Waits {
		t.Errorf("%d waits, want %d", len(waits), trace.Waits)
	}
	return waits, ns
}

func TestWaits(t *testing.T) {
	onSoft := func(j *testJourney, after uint64, function string) {
		j.now += after
		j.onSoftStack(func() { j.in(function, 0, nil) })
	}
	for _, c := range []struct {
		name  string
		build func(j *testJourney)
		waits []string
		ns    []uint64
	}{
		{
			"the outermost qdisc's return counts",
			func(j *testJourney) {
				j.in("__dev_queue_xmit", 0, func() { j.in("htb_enqueue", 0, func() { j.in("fq_codel_enqueue", 0, nil) }) })
				onSoft(j, 1000, "dev_hard_start_xmit")
			},
			[]string{"wait qdisc"},
			[]uint64{1050}, // from the return of htb_enqueue, 50 before its caller's
		},
		{
			"what the caller goes on with does not wait",
			func(j *testJourney) {
				j.in("__dev_queue_xmit", 0, func() {
					j.in("pfifo_fast_enqueue", 0, nil)
					j.in("dev_hard_start_xmit", 0, nil)
				})
			},
			nil,
			nil,
		},
		{
			"what nobody fetches does not end",
			func(j *testJourney) { j.in("tcp_data_queue", 0, func() { j.in("tcp_data_queue_ofo", 0, nil) }) },
			nil,
			nil,
		},
		{
			"the innermost function tells the cause",
			func(j *testJourney) {
				j.in("tcp_data_queue", 0, func() { j.in("tcp_data_queue_ofo", 0, nil) })
				onSoft(j, 500, "tcp_queue_rcv")
				onSoft(j, 300, "skb_copy_datagram_iter")
			},
			[]string{"wait reordering", "wait socket"},
			[]uint64{500, 300},
		},
		{
			"fetched by another CPU before the return",
			func(j *testJourney) {
				var early event.Frame
				j.in("__udp_enqueue_schedule_skb", 0, func() {
					early = event.Frame{
						Journey: j.ID, Skb: j.skb, Func: j.k.fn("skb_consume_udp"), Stack: taskStack + 0x13000,
						EnterMonoNs: j.now, ExitMonoNs: j.now + 400, TID: 99, CPU: 3,
					}
				})
				j.Frames = append(j.Frames, early)
			},
			nil,
			nil,
		},
		{
			"another skb's frame is no end",
			func(j *testJourney) {
				j.in("__sock_queue_rcv_skb", 0, nil)
				j.skb = skbB
				onSoft(j, 100, "packet_rcv")
				j.skb = skbA
				onSoft(j, 100, "skb_copy_datagram_iter")
			},
			[]string{"wait socket"},
			[]uint64{350},
		},
		{
			"without returns nothing is known",
			func(j *testJourney) {
				j.in("netem_enqueue", 0, nil)
				onSoft(j, 1000, "dev_hard_start_xmit")
				for i := range j.Frames {
					j.Frames[i].ExitMonoNs, j.Frames[i].Flags = j.Frames[i].EnterMonoNs, event.FrameEntryOnly
				}
			},
			nil,
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newTestJourney(newFakeKernel(), 15)
			j.addFacts(echoRequest)
			c.build(j)
			waits, ns := waitsOf(t, j)
			if diff := cmp.Diff(c.waits, waits); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(c.ns, ns); diff != "" {
				t.Errorf("ns: -want +got:\n%s", diff)
			}
		})
	}
}

// Every wait has a name, and a key for its sum.
// written is a TCP packet with bytes of writes, each an offset from the packet's first
// byte, at times before its first frame.
func written(k *fakeKernel, writes map[int32]uint64) *testJourney {
	j := newTestJourney(k, 15)
	j.addFacts(tcpSegment)
	for offset, ago := range writes {
		j.Apps = append(j.Apps, event.App{
			What: event.AppWrites, Journey: j.ID, Skb: j.skb, AtMonoNs: j.now,
			Seq: j.Facts[0].TCPSeq + uint32(offset), WriteMonoNs: j.now - ago,
		})
	}
	j.in("ip_output", 0, nil)
	return j
}

func TestWriteWait(t *testing.T) {
	k := newFakeKernel()
	cut := written(k, map[int32]uint64{0: 4000})
	cut.Links = []event.Link{{What: event.LinkDerived, Journey: cut.ID, Other: 3, Skb: cut.skb}}
	again := written(k, map[int32]uint64{0: 4000})
	again.Links = []event.Link{{What: event.LinkRetransmitted, Journey: again.ID, Other: 3, Number: 1}}
	whole := written(k, map[int32]uint64{0: 4000})
	whole.Links = []event.Link{{What: event.LinkDerived, Journey: 3, Other: whole.ID, Skb: cut.skb}}
	chained := written(k, map[int32]uint64{0: 4000})
	chained.Links = []event.Link{{What: event.LinkChained, Journey: chained.ID, Other: 3, Skb: chained.skb}}
	for _, c := range []struct {
		name string
		j    *testJourney
		ns   []uint64
	}{
		{"sent at last", written(k, map[int32]uint64{0: 4000}), []uint64{4000}},
		{"written with what was sent before", written(k, map[int32]uint64{-1000: 5000}), []uint64{5000}},
		{"only a later byte's write is known", written(k, map[int32]uint64{100: 4000}), nil},
		{"nothing is known", written(k, nil), nil},
		{"a segment", cut, nil},
		{"cut into segments", whole, []uint64{4000}},
		{"sent again", again, nil},
		{"chained to another one where it is received", chained, []uint64{4000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			waits, ns := waitsOf(t, c.j)
			if diff := cmp.Diff(c.ns, ns); diff != "" {
				t.Errorf("waits %q (-want +got):\n%s", waits, diff)
			}
			if len(waits) > 0 && waits[0] != "wait socket write" {
				t.Errorf("wait %q, want that of the socket's writes", waits[0])
			}
		})
	}
}

func TestWaitNames(t *testing.T) {
	for w := WaitQdisc; w < waitCount; w++ {
		if w.String() == "" || waitSpanNames[w] != "wait "+w.String() || waitKey(w).String() == "" {
			t.Errorf("wait %d: %q, %q, %q", w, w, waitSpanNames[w], waitKey(w))
		}
	}
	if waitCount.String() != "" {
		t.Error("a number outside the table has a name")
	}
}
