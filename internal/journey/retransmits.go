package journey

import "github.com/otel-kprobe/otel-kprobe/internal/event"

const (
	protocolTCP = 6 // IANA
	tcpFin      = 1 // RFC 9293 3.1
	tcpSyn      = 2

	// maxSent and maxFlows bound what is remembered. A flow that is forgotten
	// begins anew: its next retransmission goes unnoticed.
	maxSent  = 1 << 14
	maxFlows = 1 << 12
)

// flow is one direction of a TCP connection where its packets begin.
type flow struct {
	netns                       uint32
	sourcePort, destinationPort uint16
	source, destination         [16]byte
}

// flowState is how far a flow got.
type flowState struct {
	next uint32 // the sequence number after the highest that was seen
	last uint64 // serial of its latest segment
}

// sentSegment is a packet with sequence numbers of its own: data, SYN or FIN.
type sentSegment struct {
	first      uint64 // the journey that had them first
	before     uint64 // serial of the flow's segment before this one, 0: none
	begin, end uint32 // sequence numbers, end not included
	number     uint32 // 0: had them first itself; 1 for the first retransmission …
}

// sentSegments remembers the TCP segments of which journeys began lately. A
// sender never gives out a sequence number below the next one but to send it
// again, so that the way of one that does not costs one look-up.
type sentSegments struct {
	flows  map[flow]flowState
	ring   []sentSegment // segment with serial s is at s % maxSent
	serial uint64        // of the latest
}

func newSentSegments() sentSegments { return sentSegments{flows: make(map[flow]flowState)} }

// see takes the first facts of a packet with all headers, in the order in which
// packets begin. It gives the journey that had the same sequence number first and
// how many retransmissions of it this makes; 0 and 1 when the first is no longer
// known; a number of 0 for what is no retransmission. That the packet was sent
// here and not only received, where order means nothing, is for the caller to know.
func (s *sentSegments) see(f *event.Facts) (first uint64, number uint32) {
	length := f.TCPPayload
	if f.TCPFlags&tcpSyn != 0 {
		length++
	}
	if f.TCPFlags&tcpFin != 0 {
		length++
	}
	if length == 0 {
		return 0, 0
	}
	k := flow{f.NetNS, f.SourcePort, f.DestinationPort, f.Source, f.Destination}
	seg := sentSegment{first: f.Journey, begin: f.TCPSeq, end: f.TCPSeq + length}
	state, known := s.flows[k]
	if known && before(seg.begin, state.next) {
		old, found := s.containing(state.last, seg.begin)
		switch {
		case found:
			seg.first, seg.number = old.first, old.number+1
			first = seg.first
		case f.TCPFlags&tcpSyn == 0:
			seg.number = 1
		}
		number = seg.number
	}
	if f.TCPFlags&tcpSyn != 0 && number == 0 { // a new connection
		state = flowState{next: seg.begin}
		known = false
	}
	if !known || before(state.next, seg.end) {
		state.next = seg.end
	}
	seg.before = state.last
	state.last = s.add(seg)
	s.remember(k, state)
	return first, number
}

// before compares sequence numbers, which wrap around (RFC 9293 3.4).
func before(a, b uint32) bool { return int32(a-b) < 0 }

// containing gives the latest segment of a flow that has a sequence number.
func (s *sentSegments) containing(serial uint64, seq uint32) (sentSegment, bool) {
	for serial != 0 && serial+maxSent > s.serial {
		seg := &s.ring[serial%maxSent]
		if !before(seq, seg.begin) && before(seq, seg.end) {
			return *seg, true
		}
		serial = seg.before
	}
	return sentSegment{}, false
}

func (s *sentSegments) add(seg sentSegment) (serial uint64) {
	if s.ring == nil {
		s.ring = make([]sentSegment, maxSent)
	}
	s.serial++
	s.ring[s.serial%maxSent] = seg
	return s.serial
}

func (s *sentSegments) remember(k flow, state flowState) {
	if len(s.flows) >= maxFlows {
		if _, known := s.flows[k]; !known {
			clear(s.flows)
		}
	}
	s.flows[k] = state
}
