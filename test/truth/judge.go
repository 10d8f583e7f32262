package truth

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// Row is what became of the packets of one class.
type Row struct {
	Packets int
	Ours    int // of a request whose span is known: those that could be tied
	Tied    int // to a right span of each such request that they are of
	Wrong   int // to a span of anything else, whatever else they are tied to
	Missed  map[string]int
}

// Verdict is Judge's.
type Verdict struct {
	Rows   map[Class]*Row
	Wrong  []string // a sentence for each wrong link
	Unseen []string // a sentence for each gap: bytes that no packet has
	missed []string // a sentence for each of the first packets that are not tied
}

// Packets is how many were judged.
func (v *Verdict) Packets() (n int) {
	for _, row := range v.Rows {
		n += row.Packets
	}
	return n
}

// flow is what is seen of one connection.
type flow struct {
	*Connection
	packets []Packet
	first   [2]uint32   // sequence number of the first byte, of the client and of the server
	known   [2]bool     // whether it is
	acks    [2][]uint32 // acknowledged bytes of the other direction, each once, ascending
	ends    [2]int64    // bytes before the direction's FIN
}

const (
	fromServer = 0
	fromClient = 1
)

func (f *flow) direction(p *Packet) int {
	if p.Source == f.Client {
		return fromClient
	}
	return fromServer
}

// Judge holds the links of all packets against the truth.
//
// A packet with data is of the requests whose bytes it carries; one without, of those
// whose bytes its acknowledgement number covers and the next lower one that was sent
// does not. What ends a direction (FIN), and what acknowledges only that, is of no
// request's bytes: it may be tied to the request whose bytes are the last before it. In
// what order the packets are does not matter.
func (t *Truth) Judge(packets []Packet) *Verdict {
	v := &Verdict{Rows: map[Class]*Row{}}
	for _, class := range classes() {
		v.Rows[class] = &Row{Missed: map[string]int{}}
	}
	flows := map[*Connection]*flow{}
	for _, p := range packets {
		c := cmp.Or(t.connections[[2]netip.AddrPort{p.Source, p.Destination}], t.connections[[2]netip.AddrPort{p.Destination, p.Source}])
		if c == nil {
			v.judge(t, &flow{}, &p, fromClient, ClassUnexpected, nil)
			continue
		}
		if flows[c] == nil {
			flows[c] = &flow{Connection: c}
		}
		flows[c].packets = append(flows[c].packets, p)
	}
	for _, f := range flows {
		f.prepare()
		for i := range f.packets {
			p := &f.packets[i]
			class, owners := f.ownersOf(p)
			v.judge(t, f, p, f.direction(p), class, owners)
		}
		if f.known[0] && f.known[1] {
			v.Unseen = append(v.Unseen, f.gaps()...)
		} else {
			v.Unseen = append(v.Unseen, fmt.Sprintf("the handshake of the connection from %s was not seen: %d packets cannot be judged", f.Client, len(f.packets)))
		}
	}
	for key, c := range t.connections {
		if flows[c] == nil {
			v.Unseen = append(v.Unseen, fmt.Sprintf("no packet of the connection from %s to %s", key[0], key[1]))
		}
	}
	slices.Sort(v.Wrong)
	slices.Sort(v.Unseen)
	return v
}

// prepare finds where each direction begins, and what was acknowledged.
func (f *flow) prepare() {
	for i := range f.packets {
		p := &f.packets[i]
		if p.Flags&flagSYN != 0 {
			d := f.direction(p)
			f.first[d], f.known[d] = p.Seq+1, true
		}
	}
	f.ends = [2]int64{math.MaxInt64, math.MaxInt64}
	for i := range f.packets {
		p := &f.packets[i]
		d := f.direction(p)
		if p.Flags&flagFIN != 0 {
			f.ends[d] = int64(p.Seq-f.first[d]) + p.Bytes
		}
		if p.Flags&(flagSYN|flagRST) == 0 {
			f.acks[d] = append(f.acks[d], p.Ack-f.first[1-d])
		}
	}
	for d := range f.acks {
		slices.Sort(f.acks[d])
		f.acks[d] = slices.Compact(f.acks[d])
	}
}

// ownersOf are the requests that a packet is of.
func (f *flow) ownersOf(p *Packet) (Class, []int) {
	d := f.direction(p)
	if !f.known[0] || !f.known[1] {
		return ClassUnknown, nil
	}
	if p.Flags&flagSYN != 0 {
		return ClassHandshake, f.owners(d == fromClient, -1, 0)
	}
	begin := int64(p.Seq - f.first[d])
	if p.Bytes > 0 {
		owners := f.owners(d == fromClient, begin, begin+p.Bytes)
		return f.dataClass(d, begin, begin+p.Bytes), owners
	}
	return f.ownersOfEmpty(p, d, begin)
}

// ownersOfEmpty are the requests that a packet without data is of, which stands before
// byte begin of direction d.
func (f *flow) ownersOfEmpty(p *Packet, d int, begin int64) (Class, []int) {
	class := ClassServerACK
	if d == fromClient {
		class = ClassClientACK
	}
	var owners []int
	if p.Flags&(flagFIN|flagRST) != 0 {
		class = ClassClose
		owners = f.owners(d == fromClient, begin-1, begin)
	}
	if p.Flags&flagRST != 0 {
		return class, owners // its acknowledgement number may mean nothing
	}
	number := p.Ack - f.first[1-d]
	from, to := int64(-1), int64(number)
	if at, _ := slices.BinarySearch(f.acks[d], number); at > 0 {
		from = int64(f.acks[d][at-1])
	}
	switch end := f.ends[1-d]; {
	case to == 0 && class != ClassClose:
		class = ClassHandshake
	case from >= end:
		class, from = ClassClose, end-1
	}
	for _, n := range f.owners(d != fromClient, from, to) {
		if !slices.Contains(owners, n) {
			owners = append(owners, n)
		}
	}
	return class, owners
}

// dataClass is the class of bytes of one direction.
func (f *flow) dataClass(d int, from, to int64) Class {
	parts, class := f.Answers, ClassAnswer
	if d == fromClient {
		parts, class = f.Requests, ClassRequest
	}
	switch {
	case slices.ContainsFunc(parts, func(p Part) bool { return p.From < to && p.To > from }):
		return class
	case from < setupEnd(parts):
		return ClassSetup
	}
	return ClassOther
}

// judge counts one packet.
func (v *Verdict) judge(t *Truth, f *flow, p *Packet, direction int, class Class, owners []int) {
	row := v.Rows[class]
	row.Packets++
	owners = slices.DeleteFunc(slices.Clone(owners), func(n int) bool { return t.exchanges[n].TraceID == "" })
	if class == ClassUnknown {
		return
	}
	wrong := false
	tied := map[int]bool{}
	for _, l := range p.Links {
		right := false
		for _, n := range owners {
			if l.TraceID == t.exchanges[n].TraceID && l.SpanID == rightSpan(t.exchanges[n], l, direction) {
				right = true
				tied[n] = tied[n] || l.Kind != "read_by"
			}
		}
		if !right {
			wrong = true
			v.Wrong = append(v.Wrong, fmt.Sprintf("%s (%s of requests %v, %s → %s, %d bytes) is %s span %s of trace %s by %s, which is of request %d",
				p.Name, class, owners, p.Source, p.Destination, p.Bytes, l.Kind, l.SpanID, l.TraceID, l.Source, t.requestOf(l)))
		}
	}
	if wrong {
		row.Wrong++
	}
	if len(owners) == 0 {
		return
	}
	row.Ours++
	if slices.ContainsFunc(owners, func(n int) bool { return !tied[n] }) {
		why := f.reason(p, class)
		row.Missed[why]++
		if len(v.missed) < maxExamples && (class == ClassRequest || class == ClassAnswer) {
			v.missed = append(v.missed, fmt.Sprintf("%s (%s of requests %v, %s → %s, %d bytes): %s", p.Name, class, owners, p.Source, p.Destination, p.Bytes, why))
		}
		return
	}
	row.Tied++
}

// maxExamples is how many packets that are not tied are told of one by one.
const maxExamples = 10

// rightSpan is the span of an exchange that a link of its kind and source has to name,
// "" when there must not be one. Whoever acts is in its own span; what comes over the
// wire names the client's.
func rightSpan(e Exchange, l Link, direction int) string {
	wire := l.Source == "payload" || l.Source == "tcp_option"
	own, other := e.ServerSpan, e.ClientSpan
	if direction == fromClient {
		own, other = other, own
	}
	switch {
	case l.Kind == "sent_by" && wire && direction == fromClient, l.Kind == "answers" && wire && direction == fromServer:
		return e.ClientSpan
	case l.Kind == "sent_by" && !wire:
		return own
	case l.Kind == "read_by" && !wire:
		return other
	}
	return ""
}

// requestOf is the request of the trace that a link names, 0 when it is of none.
func (t *Truth) requestOf(l Link) int {
	for n, e := range t.exchanges {
		if e.TraceID == l.TraceID {
			return n
		}
	}
	return 0
}

// reason says why a packet may not have been tied.
func (f *flow) reason(p *Packet, class Class) string {
	switch {
	case p.Incomplete:
		return "incomplete trace"
	case p.Retransmission:
		return "sent again"
	case class != ClassRequest && class != ClassAnswer:
		return "no span"
	}
	parts := f.Answers
	if class == ClassRequest {
		parts = f.Requests
	}
	begin := int64(p.Seq - f.first[f.direction(p)])
	if slices.ContainsFunc(parts, func(part Part) bool { return part.From == begin }) {
		return "no span, first packet"
	}
	return "no span, later packet"
}

// gaps tell of logged bytes that no packet has.
func (f *flow) gaps() (sentences []string) {
	for d, parts := range [][]Part{fromServer: f.Answers, fromClient: f.Requests} {
		var seen [][2]int64
		for i := range f.packets {
			if p := &f.packets[i]; f.direction(p) == d && p.Bytes > 0 {
				from := int64(p.Seq - f.first[d])
				seen = append(seen, [2]int64{from, from + p.Bytes})
			}
		}
		slices.SortFunc(seen, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
		at, end := int64(0), int64(0)
		if len(parts) > 0 {
			end = parts[len(parts)-1].To
		}
		for _, s := range append(seen, [2]int64{end, end}) {
			if s[0] > at && at < end {
				sentences = append(sentences, fmt.Sprintf("no packet has bytes %d to %d from %s", at, s[0], [2]netip.AddrPort{f.Server, f.Client}[d]))
			}
			at = max(at, s[1])
		}
	}
	return sentences
}
