package correlate

import "github.com/otel-kprobe/otel-kprobe/internal/event"

const (
	// maxRequests is how many requests of a stream are remembered, the last ones.
	maxRequests = 16
	// maxHeadBytes is how long the head of a request may be that comes in pieces.
	maxHeadBytes = 4096
	// maxTuples is how many names a stream may have: with each translation of its
	// addresses it gets one more.
	maxTuples = 4
)

// request is one request, with a span or without: what follows it must not be taken
// for it. Sequence numbers are those of the bytes of a stream.
type request struct {
	context  event.AppContext
	journey  uint64 // of the packet that it began with
	atMonoNs uint64 // when that was noted
	begin    uint32
	end      uint32          // not included; nothing when open
	ack      uint32          // what it acknowledges: bytes of its answer have this number or a later one
	open     bool            // where it ends is not known: with the next one
	source   event.AppSource // 0: without a span
	flags    event.AppFlags
}

// stream is one direction of a TCP connection, with requests.
type stream struct {
	tuples     [maxTuples]tuple
	tupleCount int
	prev, next *stream // in the order of use
	lastMonoNs uint64

	requests [maxRequests]request // [:count], by begin
	count    int
	seq      uint32 // of the last payload

	opaque       bool // nothing that follows is a request that could be read
	opaqueMonoNs uint64

	head    []byte  // the begin of a request whose head is not complete; empty: none
	headOf  request // what is known of it but for these bytes
	partial request // … and by them, as far as they are there

	option event.AppContext // the last one
}

// segment is what Note was given, with what it means.
type segment struct {
	data      []byte
	journey   uint64
	atMonoNs  uint64
	seq       uint32
	ack       uint32
	whole     bool // data is all that the packet carries
	option    event.AppContext
	hasOption bool
}

// reset forgets all of an earlier connection.
func (s *stream) reset() {
	s.count, s.head = 0, s.head[:0]
	s.opaque = false
	s.option = event.AppContext{}
}

// resetBefore forgets what was noted before a connection began, by the journey of
// its SYN: journeys come late.
func (s *stream) resetBefore(monoNs, journey uint64) {
	kept := 0
	for i := range s.requests[:s.count] {
		if r := &s.requests[i]; r.atMonoNs >= monoNs || r.journey == journey {
			s.requests[kept] = *r
			kept++
		}
	}
	if kept < s.count {
		s.count = kept
		s.option = event.AppContext{}
	}
	if s.headOf.atMonoNs < monoNs && s.headOf.journey != journey {
		s.head = s.head[:0]
	}
	s.opaque = s.opaque && s.opaqueMonoNs >= monoNs
}

// lastBegun gives the index of the last request that began at seq or before, -1 if
// none did.
func (s *stream) lastBegun(seq uint32) int {
	i := s.count - 1
	for i >= 0 && before(seq, s.requests[i].begin) {
		i--
	}
	return i
}

// has says whether a request is known that begins at seq.
func (s *stream) has(seq uint32) bool {
	i := s.lastBegun(seq)
	return i >= 0 && s.requests[i].begin == seq
}

// bounds gives where request i ends. Of an open one it is where the next one, or what
// may become one, begins, and else far away.
func (s *stream) bounds(i int) (end uint32) {
	r := &s.requests[i]
	switch {
	case !r.open:
		return r.end
	case i+1 < s.count:
		return s.requests[i+1].begin
	case len(s.head) > 0 && before(r.begin, s.headOf.begin):
		return s.headOf.begin
	}
	return r.begin + maxDistance
}

// insert adds a request, unless it is known already or lies within another one: what
// looks like the head of one there is the other's body. It reports whether
// r is new, and whether a span became known by it.
func (s *stream) insert(r *request) (added, named bool) {
	i := s.lastBegun(r.begin)
	if i >= 0 {
		switch old := &s.requests[i]; {
		case old.begin == r.begin:
			if r.source != 0 && (old.source == 0 || r.source < old.source) {
				named = old.source == 0
				*old = *r // an option came before the head
			}
			return false, named
		case before(r.begin, old.end):
			return false, false
		}
	}
	i++
	s.remove(i, r.end)
	if s.count == maxRequests {
		if i == 0 {
			return false, false // older than all that are remembered
		}
		copy(s.requests[:], s.requests[1:s.count])
		s.count--
		i--
	}
	copy(s.requests[i+1:s.count+1], s.requests[i:s.count])
	s.requests[i] = *r
	s.count++
	return true, r.source != 0
}

// remove removes the requests from index i on that begin before end.
func (s *stream) remove(i int, end uint32) {
	k := i
	for k < s.count && before(s.requests[k].begin, end) {
		k++
	}
	copy(s.requests[i:], s.requests[k:s.count])
	s.count -= k - i
}

// take finds the requests that begin in a segment or go on in it.
func (c *Connections) take(s *stream, g *segment) {
	at := s.rest(g.seq)
	if len(s.head) > 0 && c.join(s, g, at) {
		return
	}
	r := request{begin: g.seq + uint32(at), ack: g.ack, journey: g.journey, atMonoNs: g.atMonoNs}
	// Segments that the kernel or a device cuts a packet into have its options each.
	again := g.option == s.option
	if at == 0 && g.hasOption {
		r.context, r.source = g.option, event.AppTCPOption
		s.option = g.option
	}
	if at < len(g.data) && c.find(s, g.data[at:], at, r, g) {
		return
	}
	if r.source != 0 && !again {
		r.open, r.end = true, r.begin
		c.keep(s, &r)
	}
}

// rest is how much of what comes from seq on is of the request before it, as far as
// that is certain.
func (s *stream) rest(seq uint32) int {
	i := s.lastBegun(seq)
	switch {
	case i < 0 || !before(seq, s.requests[i].end):
		return 0
	case s.requests[i].open:
		return event.MaxPayloadBytes // the next one begins with a packet
	}
	return int(s.requests[i].end - seq)
}

// join adds a segment to the head that is not complete yet. It reports false when
// they have nothing to do with one another. The segment's first bytes, at of them, are
// the rest of a request.
func (c *Connections) join(s *stream, g *segment, at int) bool {
	next := s.headOf.begin + uint32(len(s.head))
	if before(next, g.seq) {
		if at == 0 && recognise(g.data) == protocolNone {
			return true // a packet before it was lost, or comes later
		}
		if at == 0 {
			c.needed.add(0, beginBytes(g.data))
		}
		c.giveUp(s)
		c.counters.Broken++
		return false
	}
	known := next - g.seq
	if known >= uint32(len(g.data)) {
		return before(s.headOf.begin, g.seq+uint32(len(g.data))) // sent again
	}
	had := len(s.head)
	s.head = append(s.head, g.data[known:]...)
	buf := s.head
	s.head = s.head[:0]
	c.find(s, buf, int(known)-had, s.headOf, g)
	return true
}

// giveUp makes a request without a span of a head that will not be complete.
func (c *Connections) giveUp(s *stream) {
	s.headOf.open, s.headOf.end = true, s.headOf.begin+uint32(len(s.head))
	s.head = s.head[:0]
	c.keep(s, &s.headOf)
}

// find finds the requests in b, the end of which is g's data, the first of which is r as
// far as it is known. Byte 0 of b is byte at of the payload. It reports false when there is none at b's
// begin.
func (c *Connections) find(s *stream, b []byte, at int, r request, g *segment) bool {
	for first := true; ; first = false {
		blank := blankBytes(b)
		c.needed.add(at, at+blank)
		b, at, r.begin = b[blank:], at+blank, r.begin+uint32(blank)
		m := parse(b, keeper{&c.needed, at})
		switch {
		case m.state == stateNone:
			s.markOpaque(&m, r.atMonoNs)
			return !first || m.opaque
		case s.has(r.begin) && m.state == stateIncomplete:
			return true // sent again
		case m.state == stateIncomplete && g.whole && len(b) < maxHeadBytes && len(s.head) == 0:
			s.head = append(s.head[:0], b...) // b may lie in it, further on
			s.headOf, s.partial = r, r
			s.partial.complete(&m)
			return true
		}
		c.addMessage(s, &r, &m)
		s.markOpaque(&m, r.atMonoNs)
		if m.open || m.opaque || m.length >= uint32(len(b)) {
			return true
		}
		b, at = b[m.length:], at+int(m.length)
		r = request{begin: r.begin + m.length, ack: g.ack, journey: r.journey, atMonoNs: r.atMonoNs}
	}
}

func (s *stream) markOpaque(m *message, atMonoNs uint64) {
	if m.opaque {
		s.opaque, s.opaqueMonoNs = true, atMonoNs
	}
}

// complete adds what its bytes tell of a request.
func (r *request) complete(m *message) {
	r.open, r.end = m.open, r.begin+m.length
	if m.traceparents == 1 && m.valid {
		r.context, r.flags, r.source = m.context, m.flags, event.AppPayload
	}
}

// addMessage adds a request of which all is known that will be.
func (c *Connections) addMessage(s *stream, r *request, m *message) {
	r.complete(m)
	switch {
	case !c.keep(s, r):
	case m.state == stateIncomplete:
		c.counters.Cut++
	case m.traceparents > 0 && r.source != event.AppPayload:
		c.counters.Malformed++
	}
}

// keep adds a request to its stream and reports whether it is new.
func (c *Connections) keep(s *stream, r *request) bool {
	added, named := s.insert(r)
	if added {
		c.counters.Requests++
	}
	if named {
		c.counters.Contexts++
	}
	return added
}
