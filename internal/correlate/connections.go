// Package correlate finds out which span of an application TCP packets belong to
// from what goes over the wire: a W3C traceparent in the head of an HTTP/1 request or
// in the comment of an SQL query, and the TCP option of OpenTelemetry eBPF
// Instrumentation. Nobody vouches for these bytes: whatever they are, memory and the
// time of a call stay bounded. What is not known for certain names no span.
package correlate

import (
	"cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// The defaults of Options.
const (
	DefaultMaxConnections = 4096
	DefaultIdleNs         = 60_000_000_000
)

// Options bounds what Connections remembers. A zero member means its default.
type Options struct {
	// MaxConnections is how many directions of TCP connections with requests are
	// remembered; the one that was used least recently is forgotten first.
	MaxConnections int
	// IdleNs is how long nothing may be seen of a direction until it is forgotten.
	IdleNs uint64
}

// Counters counts what Connections saw. A request that is sent again while it is
// remembered is counted once.
type Counters struct {
	Requests  uint64 // requests whose begin was seen
	Contexts  uint64 // … of which a payload or an option named a span
	Malformed uint64 // … whose traceparent is none, or that had more than one
	Cut       uint64 // … whose head goes on beyond the bytes that were captured, or is too long
	Broken    uint64 // … the rest of whose head never came
	Forgotten uint64 // directions forgotten to keep memory bounded
	Tied      uint64 // journeys that got the span of a request or answer
}

// Connections remembers the requests of TCP connections. It has no clock of its own:
// payloads, journeys and Advance move it. It is not safe for concurrent use.
type Connections struct {
	opts      Options
	counters  Counters
	byTuple   map[tuple]*stream
	count     int     // streams
	front     *stream // used least recently
	back      *stream
	nowMonoNs uint64
	needed    neededBytes // of the last payload
}

// NewConnections makes Connections that know nothing yet.
func NewConnections(o Options) *Connections {
	o.MaxConnections = cmp.Or(max(o.MaxConnections, 0), DefaultMaxConnections)
	o.IdleNs = cmp.Or(o.IdleNs, DefaultIdleNs)
	return &Connections{opts: o, byTuple: make(map[tuple]*stream)}
}

// Counters gives the counters.
func (c *Connections) Counters() Counters { return c.counters }

// Note takes what a packet carries, in the order of the ring buffer.
func (c *Connections) Note(p *event.Payload) {
	c.needed = neededBytes{}
	c.nowMonoNs = max(c.nowMonoNs, p.AtMonoNs)
	data := p.Data[:min(uint32(p.DataBytes), p.Length, event.MaxPayloadBytes)]
	g := segment{
		seq: p.Seq, data: data, whole: uint32(len(data)) == p.Length,
		journey: p.Journey, atMonoNs: p.AtMonoNs, ack: p.Ack,
	}
	g.option, g.hasOption = findOption(p.Options[:min(p.OptionBytes, event.MaxTCPOptionBytes)])
	if p.TCPFlags&tcpSyn != 0 {
		g.seq++ // the SYN has a sequence number of its own (RFC 9293, section 3.4)
	}
	t := payloadTuple(p)
	s := c.byTuple[t]
	switch {
	case s == nil && !g.hasOption && recognise(data) == protocolNone:
		return
	case s == nil:
		s = c.add(t)
	case p.TCPFlags&tcpSyn != 0 || distance(g.seq, s.seq) > maxDistance:
		s.reset() // another connection with the same addresses and ports
	}
	s.seq = g.seq
	c.touch(s)
	if !s.opaque {
		c.take(s, &g)
	}
}

// Advance tells the time and forgets what nothing was seen of for long.
func (c *Connections) Advance(nowMonoNs uint64) {
	c.nowMonoNs = max(c.nowMonoNs, nowMonoNs)
	for c.front != nil && c.nowMonoNs-c.front.lastMonoNs >= c.opts.IdleNs {
		c.forget(c.front)
	}
}

// add makes the stream of a tuple, in place of the one that was used least recently
// if there are too many.
func (c *Connections) add(t tuple) *stream {
	if c.count >= c.opts.MaxConnections {
		c.counters.Forgotten++
		c.forget(c.front)
	}
	s := &stream{}
	c.count++
	c.alias(s, t)
	c.pushBack(s)
	return s
}

// alias makes s known by one tuple more, for its addresses are translated on the way.
func (c *Connections) alias(s *stream, t tuple) {
	if s.tupleCount < len(s.tuples) {
		s.tuples[s.tupleCount] = t
		s.tupleCount++
		c.byTuple[t] = s
	}
}

func (c *Connections) forget(s *stream) {
	for _, t := range s.tuples[:s.tupleCount] {
		delete(c.byTuple, t)
	}
	c.count--
	c.unlink(s)
}

// touch makes s the one that was used last.
func (c *Connections) touch(s *stream) {
	s.lastMonoNs = c.nowMonoNs
	if c.back != s {
		c.unlink(s)
		c.pushBack(s)
	}
}

func (c *Connections) pushBack(s *stream) {
	s.lastMonoNs = c.nowMonoNs
	s.prev, s.next = c.back, nil
	if c.back != nil {
		c.back.next = s
	} else {
		c.front = s
	}
	c.back = s
}

func (c *Connections) unlink(s *stream) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		c.front = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		c.back = s.prev
	}
}
