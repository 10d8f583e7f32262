package correlate

import (
	"cmp"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

const (
	// maxContexts bounds the spans of one packet.
	maxContexts = 8
	// maxSkbs bounds the skbs of a journey that are looked at.
	maxSkbs = 64
	// endSlack is how far behind its end a request may be acknowledged to be the one
	// that is answered: a FIN has a sequence number, and some clients send an empty
	// line after a body (RFC 9112, section 2.2). More would be of a request that was
	// not seen.
	endSlack = 2
)

// ends are what is known of both directions of a journey's connection.
type ends struct {
	requester *stream // the packet may carry its requests
	answered  *stream // the packet may answer its requests
}

// Tie adds to a journey the spans of the requests that its packets carry or answer.
func (c *Connections) Tie(j *journey.Journey) {
	if c.count == 0 {
		return
	}
	e := c.ends(j)
	if e.requester == nil && e.answered == nil {
		return
	}
	had := len(j.Apps)
	var skbs [maxSkbs]uint64
	seen := skbs[:0]
	for i := range j.Facts {
		f := &j.Facts[i]
		if _, ok := factsTuple(f); !ok || slices.Contains(seen, f.Skb) {
			continue
		}
		if len(seen) == maxSkbs {
			break
		}
		seen = append(seen, f.Skb)
		e.tie(j, f)
	}
	if len(j.Apps) > had {
		c.counters.Tied++
		slices.SortStableFunc(j.Apps, func(a, b event.App) int { return cmp.Compare(a.AtMonoNs, b.AtMonoNs) })
	}
}

// ends finds the streams of a journey by any of its tuples, and makes them known by
// the others.
func (c *Connections) ends(j *journey.Journey) ends {
	var e ends
	var tuples [maxTuples]tuple
	known := tuples[:0]
	for i := range j.Facts {
		t, ok := factsTuple(&j.Facts[i])
		if !ok || slices.Contains(known, t) {
			continue
		}
		if known = append(known, t); e.requester == nil {
			e.requester = c.byTuple[t]
		}
		if e.answered == nil {
			e.answered = c.byTuple[t.reversed()]
		}
		if len(known) == maxTuples {
			break
		}
	}
	for _, t := range known {
		c.name(e.requester, t)
		c.name(e.answered, t.reversed())
	}
	return e
}

// name makes s, if there is one, known by t, and notes that it is used.
func (c *Connections) name(s *stream, t tuple) {
	if s == nil {
		return
	}
	if c.byTuple[t] == nil {
		c.alias(s, t)
	}
	c.touch(s)
}

// tie ties one skb, by its first facts.
func (e ends) tie(j *journey.Journey, f *event.Facts) {
	flags, had := f.TCPFlags, len(j.Apps)
	if flags&tcpSyn != 0 && flags&tcpAck == 0 {
		for _, s := range []*stream{e.requester, e.answered} {
			if s != nil {
				s.resetBefore(f.AtMonoNs, j.ID)
			}
		}
	}
	if f.TCPPayload == 0 && flags&(tcpSyn|tcpFin|tcpRst) != 0 {
		return // neither asks nor answers
	}
	if s := e.requester; s != nil {
		if f.TCPPayload == 0 {
			add(j, f, s.acknowledged(f.TCPSeq, f.TCPAck), event.AppRequests)
		} else {
			s.carried(j, f, had+maxContexts)
		}
	}
	if s := e.answered; s != nil && flags&tcpAck != 0 && len(j.Apps) < had+maxContexts {
		add(j, f, s.answered(f.TCPAck), event.AppAnswers)
	}
}

// carried adds the requests of which a packet carries bytes, up to a number of Apps.
func (s *stream) carried(j *journey.Journey, f *event.Facts, limit int) {
	begin := f.TCPSeq
	if f.TCPFlags&tcpSyn != 0 {
		begin++
	}
	end := begin + f.TCPPayload
	for i := range s.requests[:s.count] {
		if r := &s.requests[i]; before(r.begin, end) && before(begin, s.bounds(i)) && len(j.Apps) < limit {
			add(j, f, r, event.AppRequests)
		}
	}
	// The journey of a packet may end before the rest of the head comes.
	if r := &s.partial; len(s.head) > 0 && before(r.begin, end) && before(begin, r.end) && len(j.Apps) < limit {
		add(j, f, r, event.AppRequests)
	}
}

// asked gives the request that was the last one when all before seq had been sent:
// what is received then answers it. It gives nil when there is none, or a later one
// that was not seen.
func (s *stream) asked(seq uint32) *request {
	if r := &s.partial; len(s.head) > 0 && before(r.begin, seq) {
		if before(r.end+endSlack, seq) {
			return nil
		}
		return r
	}
	i := s.lastBegun(seq - 1)
	if i < 0 || before(s.bounds(i)+endSlack, seq) {
		return nil
	}
	return &s.requests[i]
}

// acknowledged gives the request whose answer a packet without data acknowledges: the
// last one before seq, unless nothing of its answer had come.
func (s *stream) acknowledged(seq, ack uint32) *request {
	r := s.asked(seq)
	if r != nil && !before(r.ack, ack) {
		r = s.asked(r.begin)
	}
	return s.alone(r)
}

// answered gives the request that what acknowledges all before ack answers.
func (s *stream) answered(ack uint32) *request { return s.alone(s.asked(ack)) }

// alone gives a request back, unless it was sent before the one before it was answered:
// then nothing tells which of both an answer is for.
func (s *stream) alone(r *request) *request {
	if r == nil {
		return nil
	}
	if i := s.lastBegun(r.begin - 1); i >= 0 && s.requests[i].ack == r.ack {
		return nil
	}
	return r
}

func add(j *journey.Journey, f *event.Facts, r *request, what event.AppWhat) {
	if r == nil || r.source == 0 {
		return
	}
	j.Apps = append(j.Apps, event.App{
		Journey: j.ID, Skb: f.Skb, AtMonoNs: f.AtMonoNs, CPU: f.CPU,
		Context: r.context, Source: r.source, Flags: r.flags, What: what,
	})
}
