package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// rootLink is a link of a root: its kind, and the journey and part it leads to.
type rootLink struct {
	Kind    string
	Journey uint64
	Part    int
}

// linksOf reads the links of a root, whose ids must be those of a part below 8.
func linksOf(t *testing.T, b *Builder, tr *Trace) []rootLink {
	t.Helper()
	var found []rootLink
	for _, l := range tr.Root().Links {
		r := rootLink{Part: -1}
		for _, a := range l.Attrs {
			switch a.Key {
			case KeyLinkKind:
				r.Kind = a.Str
			case KeyJourney:
				r.Journey = uint64(a.Int)
			}
		}
		for part := range 8 {
			if id, base := b.ids.part(r.Journey, part); id == l.TraceID && spanID(base, 0) == l.SpanID {
				r.Part = part
			}
		}
		found = append(found, r)
	}
	return found
}

func TestLinks(t *testing.T) {
	const other = 99
	k := newFakeKernel()
	derived := func(function string) event.Link {
		return event.Link{What: event.LinkDerived, Journey: 8, Other: other, Skb: skbA, OtherSkb: skbB, Func: k.fn(function)}
	}
	merged := func(function string) event.Link {
		return event.Link{What: event.LinkMerged, Journey: 8, Other: other, Skb: skbA, OtherSkb: skbB, Func: k.fn(function)}
	}
	chained := event.Link{What: event.LinkChained, Journey: 8, Other: other, Skb: skbA, OtherSkb: skbB, Func: k.fn("inet_gro_complete")}
	// reversed is the same link as the other journey has it.
	reversed := func(l event.Link) event.Link {
		l.Journey, l.Other, l.Skb, l.OtherSkb = l.Other, l.Journey, l.OtherSkb, l.Skb
		return l
	}
	tests := []struct {
		name string
		link event.Link
		kind string // "" for no link
		end  string
	}{
		{"segment", derived("skb_segment"), "segment_of", "dropped"},
		{"of segments", reversed(derived("skb_segment")), "segment", "dropped"},
		{"fragment", derived("ip_copy_metadata"), "fragment_of", "dropped"},
		{"of fragments", reversed(derived("ip6_copy_metadata")), "fragment", "dropped"},
		{"whole", derived("skb_morph"), "reassembled", "dropped"},
		{"first of a whole", reversed(derived("skb_morph")), "reassembled_into", "absorbed"},
		{"piece of a whole", merged("inet_frag_reasm_finish"), "reassembled_into", "absorbed"},
		{"pieces", reversed(merged("inet_frag_reasm_finish")), "reassembled", "dropped"},
		{"GRO", merged("skb_gro_receive"), "merged_into", "merged"},
		{"held by GRO", reversed(merged("skb_gro_receive")), "merged", "dropped"},
		{"GRO's list", chained, "chained_to", "dropped"},
		{"head of GRO's list", reversed(chained), "chained", "dropped"},
		{"coalesced fragments", merged("skb_try_coalesce"), "reassembled_into", "merged"},
		{"received again", event.Link{What: event.LinkRetransmitted, Journey: 8, Other: other, Number: 1}, "", "dropped"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := tcpDrop(k)
			tt.link.AtMonoNs = j.Ends[0].AtMonoNs - 1
			j.Links = []event.Link{tt.link}
			b := testBuilder(k)
			tr := b.Build(&j.Journey)
			var want []rootLink
			if tt.kind != "" {
				want = []rootLink{{tt.kind, other, 0}}
			}
			if diff := cmp.Diff(want, linksOf(t, b, tr)); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
			if tr.End != tt.end || (tt.end == "dropped") != tr.Root().Error {
				t.Errorf("ended %q with Error %t, want %q", tr.End, tr.Root().Error, tt.end)
			}
		})
	}
}

// A merge by the function that puts fragments together, too, is none of fragments
// where TCP had the packet.
func TestCoalescedByTCP(t *testing.T) {
	k := newFakeKernel()
	j := newTestJourney(k, 8)
	j.addFacts(tcpSegment)
	j.in("ip_frag_queue", 0, nil)
	j.in("tcp_v4_rcv", 0, nil)
	l := event.Link{What: event.LinkMerged, Journey: 8, Other: 9, Skb: skbA, Func: k.fn("skb_try_coalesce"), AtMonoNs: j.now}
	j.Links = []event.Link{l}
	b := testBuilder(k)
	if diff := cmp.Diff([]rootLink{{"merged_into", 9, 0}}, linksOf(t, b, b.Build(&j.Journey))); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

// sentAgain is a segment that leaves, its first function given.
func sentAgain(k *fakeKernel, first string, other uint64) *testJourney {
	j := newTestJourney(k, 8)
	j.addFacts(tcpSegment)
	j.in(first, 0, func() { j.in("ip_output", 0, nil) })
	j.end(event.EndConsumed, 0, 0)
	j.Links = []event.Link{{What: event.LinkRetransmitted, Journey: 8, Other: other, Number: 2, AtMonoNs: 1}}
	return j
}

func TestRetransmit(t *testing.T) {
	tests := []struct {
		name, first string
		other       uint64
		number      int64
		want        []rootLink
	}{
		{"of a known segment", "__ip_local_out", 5, 2, []rootLink{{"retransmission_of", 5, 0}}},
		{"of one that is not known", "__ip_local_out", 0, 2, nil},
		{"a segment that began anew", "__dev_queue_xmit", 5, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKernel()
			b := testBuilder(k)
			tr := b.Build(&sentAgain(k, tt.first, tt.other).Journey)
			if diff := cmp.Diff(tt.want, linksOf(t, b, tr)); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
			number := int64(0)
			for _, a := range tr.Root().Attrs {
				if a.Key == KeyTCPRetransmit {
					number = a.Int
				}
			}
			if number != tt.number {
				t.Errorf("retransmission %d, want %d", number, tt.number)
			}
		})
	}
}

// multicast is a datagram that two sockets get, the second one a clone, made in a
// function of that name. A tap takes another clone of the original.
func multicast(k *fakeKernel, function string) *testJourney {
	const skbTap = skbB + 0x100
	j := newTestJourney(k, 7)
	j.addFacts(echoRequest)
	clone := func(skb uint64) {
		j.in("skb_clone", skb, nil)
		j.Clones = append(j.Clones, event.Clone{Journey: 7, Skb: skb, Parent: skbA, AtMonoNs: j.now + 1, CPU: j.cpu})
		j.now += 2
	}
	j.in("__netif_receive_skb_core", 0, func() {
		j.in("packet_rcv", 0, func() { clone(skbTap) })
		j.in(function, 0, func() {
			clone(skbB)
			j.skb = skbB
			j.in("udp_queue_rcv_skb", 0, func() { j.in("__udp_enqueue_schedule_skb", 0, nil) })
			j.skb = skbA
			j.in("udp_queue_rcv_skb", 0, nil)
		})
	})
	for _, skb := range []uint64{skbTap, skbB, skbA} {
		j.skb = skb
		j.now++
		j.end(event.EndConsumed, 0, 0)
	}
	return j
}

func TestCopiesAreTracesOfTheirOwn(t *testing.T) {
	type made struct {
		Frames, Ends int
		First        string
		Unfinished   bool
		Links        []rootLink
	}
	split := []made{
		{Frames: 6, Ends: 2, First: "__netif_receive_skb_core", Links: []rootLink{{"copy", 7, 1}}},
		{Frames: 2, Ends: 1, First: "udp_queue_rcv_skb", Links: []rootLink{{"copy_of", 7, 0}}},
	}
	tests := []struct {
		name, function string
		change         func(*journey.Journey)
		want           []made
	}{
		{"to two sockets", "__udp4_lib_rcv", nil, split},
		{"within one packet's way", "ip_local_deliver", nil, []made{{Frames: 8, Ends: 3, First: "__netif_receive_skb_core"}}},
		{"the copy is still there", "__udp4_lib_rcv", func(j *journey.Journey) {
			j.Unfinished = true
			j.Ends = append(j.Ends[:1], j.Ends[2])
		}, []made{
			split[0],
			{Frames: 2, First: "udp_queue_rcv_skb", Unfinished: true, Links: split[1].Links},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKernel()
			j := multicast(k, tt.function)
			if tt.change != nil {
				tt.change(&j.Journey)
			}
			b := testBuilder(k)
			var got []made
			ids := map[[16]byte]bool{}
			b.Each(&j.Journey, func(tr *Trace) {
				ids[tr.ID] = true
				got = append(got, made{
					Frames: len(tr.Spans) - 1 - tr.Waits, Ends: len(tr.Ends), First: tr.Spans[1].Name,
					Unfinished: tr.Unfinished, Links: linksOf(t, b, tr),
				})
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("traces (-want +got):\n%s", diff)
			}
			if len(ids) != len(got) {
				t.Errorf("%d ids for %d traces", len(ids), len(got))
			}
		})
	}
}

// Each copy has what was reported of its own skb.
func TestCopiesHaveTheirOwnExtras(t *testing.T) {
	k := newFakeKernel()
	j := multicast(k, "__udp4_lib_mcast_deliver")
	for n, skb := range []uint64{skbA, skbB} {
		tgid := uint32(70 + n)
		j.Owners = append(j.Owners, event.Owner{Journey: j.ID, Skb: skb, AtMonoNs: j.now, Sock: 9, TGID: tgid, Flags: event.OwnerProcess})
		j.Conntracks = append(j.Conntracks, event.Conntrack{Journey: j.ID, Skb: skb, AtMonoNs: j.now, Mark: tgid})
		j.Rules = append(j.Rules, event.Rule{Journey: j.ID, Skb: skb, AtMonoNs: j.now, Handle: uint64(tgid)})
	}
	b := testBuilder(k)
	part := uint32(0)
	b.Each(&j.Journey, func(tr *Trace) {
		want := 70 + part
		if len(tr.owners) != 1 || tr.owners[0].TGID != want || len(tr.Conntracks) != 1 || tr.Conntracks[0].Mark != want ||
			len(tr.Rules) != 1 || tr.Rules[0].Handle != uint64(want) {
			t.Errorf("trace %d has owners %v, connections %v, rules %v", part, tr.owners, tr.Conntracks, tr.Rules)
		}
		part++
	})
	if part != 2 {
		t.Errorf("%d traces, want 2", part)
	}
}

// A journey whose clones stay with the packet is built as before, without memory.
func TestEachAllocatesNothing(t *testing.T) {
	k := newFakeKernel()
	j := multicast(k, "ip_local_deliver")
	b := testBuilder(k)
	emit := func(*Trace) {}
	b.Each(&j.Journey, emit)
	if n := testing.AllocsPerRun(100, func() { b.Each(&j.Journey, emit) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
