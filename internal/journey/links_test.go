package journey

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func link(what event.LinkWhat, id, other, skb, at uint64) event.Event {
	return event.Event{Kind: event.KindLink, Link: event.Link{
		What: what, Journey: id, Other: other, Skb: skb, AtMonoNs: at,
	}}
}

// linked is a journey with its links in short.
type linked struct {
	ID    uint64
	Links []event.Link
	Whole bool // neither unfinished nor incomplete
}

func runLinks(steps []event.Event) ([]linked, Stats) {
	var got []linked
	t := NewTracker(Options{}, func(j *Journey) {
		got = append(got, linked{
			ID: j.ID, Links: append([]event.Link(nil), j.Links...),
			Whole: !j.Unfinished && !j.Incomplete && j.LostFrames == 0,
		})
	})
	for i := range steps {
		t.Add(&steps[i])
	}
	t.CloseAll(1000)
	return got, t.Stats()
}

// A segment's journey begins with the link, and both journeys have it.
func TestDerivedJourney(t *testing.T) {
	got, stats := runLinks([]event.Event{
		start(0xa, 10),
		link(event.LinkDerived, 2, 1, 0xb, 20),
		end(0xa, 30, 0),
		of(2, frame(0xb, 31, 32)),
		of(2, end(0xb, 40, 1)),
	})
	l := event.Link{What: event.LinkDerived, Journey: 2, Other: 1, Skb: 0xb, AtMonoNs: 20}
	want := []linked{{1, []event.Link{l}, true}, {2, []event.Link{l}, true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("journeys (-want +got):\n%s", diff)
	}
	if stats.LostStarts != 0 || stats.LateEvents != 0 || stats.LeftOut != 0 {
		t.Errorf("losses: %+v", stats)
	}
}

// A merge is told to the journeys that are open; it opens none.
func TestMergedJourneys(t *testing.T) {
	got, stats := runLinks([]event.Event{
		start(0xa, 10),
		of(2, start(0xb, 11)),
		link(event.LinkMerged, 2, 1, 0xb, 20),
		of(2, end(0xb, 21, 0)),
		link(event.LinkMerged, 2, 1, 0xb, 22),
		link(event.LinkMerged, 3, 1, 0xc, 23),
		end(0xa, 30, 0),
	})
	var links []event.Link
	for _, l := range []event.Event{
		link(event.LinkMerged, 2, 1, 0xb, 20), link(event.LinkMerged, 2, 1, 0xb, 22), link(event.LinkMerged, 3, 1, 0xc, 23),
	} {
		links = append(links, l.Link)
	}
	want := []linked{{2, links[:1], true}, {1, links, true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("journeys (-want +got):\n%s", diff)
	}
	if stats.Emitted != 2 {
		t.Errorf("%d journeys, want 2", stats.Emitted)
	}
}

// segmentOf is the start of a TCP packet.
func segmentOf(id uint64, seq, payload uint32, flags uint8) event.Event {
	return event.Event{Kind: event.KindFacts, Facts: event.Facts{
		Journey: id, Skb: id << 8, AtMonoNs: id, Number: 1,
		Flags:  event.FactsStart | event.FactsTuple | event.FactsPorts,
		Family: 4, Protocol: protocolTCP, SourcePort: 1, DestinationPort: 2,
		TCPSeq: seq, TCPPayload: payload, TCPFlags: flags,
	}}
}

func otherPort(ev event.Event) event.Event {
	ev.Facts.SourcePort = 9
	return ev
}

func TestRetransmissions(t *testing.T) {
	type again struct {
		Journey, First uint64
		Number         uint32
	}
	const ack = 16
	tests := []struct {
		name  string
		steps []event.Event
		want  []again
	}{
		{"none", []event.Event{
			segmentOf(1, 100, 0, tcpSyn), segmentOf(2, 101, 0, ack), segmentOf(3, 101, 1000, ack), segmentOf(4, 1101, 0, ack),
			segmentOf(5, 1101, 10, ack), segmentOf(6, 1111, 0, tcpFin|ack), segmentOf(7, 1112, 0, ack),
		}, nil},
		{"twice", []event.Event{
			segmentOf(1, 100, 10, ack), segmentOf(2, 110, 10, ack), segmentOf(3, 100, 10, ack), segmentOf(4, 100, 10, ack),
		}, []again{{3, 1, 1}, {4, 1, 2}}},
		{"two parts of one that was cut into segments", []event.Event{
			segmentOf(1, 100, 3000, ack), segmentOf(2, 1100, 1000, ack), segmentOf(3, 2100, 1000, ack), segmentOf(4, 2100, 1000, ack),
		}, []again{{2, 1, 1}, {3, 1, 1}, {4, 1, 2}}},
		{"of a SYN and a FIN", []event.Event{
			segmentOf(1, 100, 0, tcpSyn), segmentOf(2, 100, 0, tcpSyn), segmentOf(3, 101, 0, tcpFin|ack), segmentOf(4, 101, 0, tcpFin|ack),
		}, []again{{2, 1, 1}, {4, 3, 1}}},
		{"over the end of the sequence numbers", []event.Event{
			segmentOf(1, 0xffffff00, 0x200, ack), segmentOf(2, 0x80, 0x80, ack), segmentOf(3, 0x100, 10, ack),
		}, []again{{2, 1, 1}}},
		{"a new connection at the same ports", []event.Event{
			segmentOf(1, 5000, 10, ack), segmentOf(2, 100, 0, tcpSyn), segmentOf(3, 101, 10, ack),
		}, nil},
		{"another connection", []event.Event{
			segmentOf(1, 100, 10, ack), otherPort(segmentOf(2, 100, 10, ack)),
		}, nil},
		{"of what was never seen", []event.Event{
			segmentOf(1, 100, 10, ack), segmentOf(2, 50, 10, ack),
		}, []again{{2, 0, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			journeys, _ := runLinks(tt.steps)
			var got []again
			for _, j := range journeys {
				for _, l := range j.Links {
					if l.Journey == j.ID {
						got = append(got, again{l.Journey, l.Other, l.Number})
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("retransmissions (-want +got):\n%s", diff)
			}
		})
	}
}

// What is remembered is bounded, and what was forgotten is not found by chance.
func TestRememberedSegmentsAreBounded(t *testing.T) {
	s := newSentSegments()
	for i := range uint32(3 * maxSent) {
		f := segmentOf(uint64(i)+1, i*10, 10, 16).Facts
		if i%4 == 0 {
			f.SourcePort, f.NetNS = uint16(i), i // a flow of its own
		}
		if first, number := s.see(&f); number != 0 {
			t.Fatalf("segment %d is retransmission %d of %d", i, number, first)
		}
	}
	if len(s.ring) != maxSent || len(s.flows) > maxFlows {
		t.Errorf("%d segments and %d flows, want at most %d and %d", len(s.ring), len(s.flows), maxSent, maxFlows)
	}
	f := segmentOf(1<<40, 10, 10, 16).Facts
	if first, number := s.see(&f); first != 0 || number != 1 && number != 0 {
		t.Errorf("an old segment is retransmission %d of %d, want of an unknown one", number, first)
	}
}

// Looking for retransmissions costs no memory but for new flows.
func TestSeeAllocatesNothing(t *testing.T) {
	s := newSentSegments()
	ev := segmentOf(1, 1, 10, 16)
	s.see(&ev.Facts)
	if n := testing.AllocsPerRun(1000, func() {
		ev.Facts.TCPSeq += 10
		s.see(&ev.Facts)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
