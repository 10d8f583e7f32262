package correlate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// thousand is a request of 1,000 bytes with span(n).
func thousand(n int) string {
	have := len(post(n, string(make([]byte, 900))))
	return post(n, string(make([]byte, 900+1000-have)))
}

// Requests 1 and 2 are at 1000 to 2000 and 2000 to 3000, one without a span at 3000
// to 3xxx, and an open one at 5000.
func testConnections() *Connections {
	c := NewConnections(Options{})
	c.Note(payloadOf(client, 1000, thousand(1)))
	c.Note(payloadOf(client, 2000, thousand(2)))
	c.Note(payloadOf(client, 3000, head("GET / HTTP/1.1")))
	c.Note(payloadOf(client, 5000, head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "traceparent: "+traceparentOf(5))))
	return c
}

func TestTie(t *testing.T) {
	const ack, fin, syn, rst = tcpAck, tcpFin, tcpSyn, tcpRst
	for _, test := range []struct {
		name string
		j    *journey.Journey
		want string
	}{
		{"a request", packet(client, ack, 1000, 1, 1000), "asks 1"},
		{"its last byte", packet(client, ack, 1999, 1, 1), "asks 1"},
		{"of two", packet(client, ack, 1500, 1, 1000), "asks 1, asks 2"},
		{"of three, one without", packet(client, ack, 1500, 1, 1600), "asks 1, asks 2"},
		{"without a span", packet(client, ack, 3000, 1, 10), ""},
		{"before all", packet(client, ack, 900, 1, 100), ""},
		{"behind an end", packet(client, ack, 3100, 1, 100), ""},
		{"open", packet(client, ack, 500_000, 1, 100), "asks 5"},
		{"far away", packet(client, ack, 5000+maxDistance, 1, 100), ""},
		{"acknowledges answer 1", packet(client, ack, 2000, 700, 0), "asks 1"},
		{"acknowledges answer 2", packet(client, ack, 3000, 700, 0), "asks 2"},
		{"acknowledges before all", packet(client, ack, 1000, 1, 0), ""},
		{"acknowledges after what was not seen", packet(client, ack, 4000, 1, 0), ""},
		{"FIN with data", packet(client, ack|fin, 1999, 1, 1), "asks 1"},
		{"FIN", packet(client, ack|fin, 2000, 1, 0), ""},
		{"RST", packet(client, rst, 2000, 1, 0), ""},

		{"answer 1", packet(server, ack, 1, 2000, 500), "answers 1"},
		{"answer 2", packet(server, ack, 1, 3000, 500), "answers 2"},
		{"begins with 1's second byte", packet(server, ack, 1, 1001, 500), "answers 1"},
		{"acknowledgement", packet(server, ack, 1, 1500, 0), "answers 1"},
		{"answer after FIN", packet(server, ack, 1, 2001, 500), "answers 2"},
		{"answer to none", packet(server, ack, 1, 1000, 500), ""},
		{"answer to one without a span", packet(server, ack, 1, 3005, 500), ""},
		{"answer to what was not seen", packet(server, ack, 1, 4000, 500), ""},
		{"answer to the open one", packet(server, ack, 1, 500_000, 500), "answers 5"},
		{"no acknowledgement", packet(server, 0, 1, 2000, 500), ""},
		{"SYN", packet(server, syn|ack, 1, 2000, 0), ""},
		{"answer's FIN", packet(server, ack|fin, 1, 2000, 0), ""},

		{"another connection", packet(other(1), ack, 1000, 1, 1000), ""},
		{"UDP", &journey.Journey{Facts: []event.Facts{{Protocol: 17, Flags: event.FactsTuple | event.FactsPorts}}}, ""},
		{"no facts", &journey.Journey{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := tied(testConnections(), test.j); got != test.want {
				t.Errorf("%q", got)
			}
		})
	}
}

// What Tie adds says of which skb, and stays in the order of time.
func TestTieAdds(t *testing.T) {
	c := testConnections()
	j := packet(client, tcpAck, 1000, 1, 1000)
	again := j.Facts[0]
	again.Number, again.AtMonoNs = 2, 2001
	forwarded := j.Facts[0]
	forwarded.Skb, forwarded.AtMonoNs, forwarded.CPU = 0xf1, 2500, 3
	j.Facts = append(j.Facts, again, forwarded)
	read := event.App{What: event.AppReads, AtMonoNs: 2400}
	j.Apps = append(j.Apps, read)
	c.Tie(j)
	want := event.App{
		Journey: 2, Skb: 0xf0, AtMonoNs: 2000, Context: span(1), Source: event.AppPayload, What: event.AppRequests,
	}
	second := want
	second.Skb, second.AtMonoNs, second.CPU = 0xf1, 2500, 3
	if diff := cmp.Diff([]event.App{want, read, second}, j.Apps); diff != "" {
		t.Error(diff)
	}
	if got := c.Counters().Tied; got != 1 {
		t.Errorf("%d tied", got)
	}
}

func TestTieUnsampledAndOption(t *testing.T) {
	c := NewConnections(Options{})
	parent := traceparentOf(1)
	c.Note(payloadOf(client, 1000, head("GET / HTTP/1.1", "traceparent: "+parent[:len(parent)-1]+"0")))
	c.Note(withOption(payloadOf(client, 2000, "\x17"), span(4)))
	for _, test := range []struct {
		j    *journey.Journey
		want string
	}{
		{packet(client, tcpAck, 1000, 1, 10), "unsampled asks 1"},
		{packet(client, tcpAck, 2000, 1, 10), "option asks 4"},
		{packet(server, tcpAck, 1, 2001, 10), "option answers 4"},
	} {
		if got := tied(c, test.j); got != test.want {
			t.Errorf("%q instead of %q", got, test.want)
		}
	}
}

// A packet with many requests is tied to the first ones.
func TestTieIsBounded(t *testing.T) {
	c := NewConnections(Options{})
	data, last := "", 0
	for n := range 12 {
		last = len(data)
		data += get(n + 1)
	}
	c.Note(payloadOf(client, 1000, data[:1000]))
	c.Note(payloadOf(client, 2000, data[1000:]))
	if got := tied(c, packet(client, tcpAck, 1000, 1, uint32(len(data)))); got !=
		"asks 1, asks 2, asks 3, asks 4, asks 5, asks 6, asks 7, asks 8" {
		t.Errorf("%q", got)
	}
	if got := tied(c, packet(client, tcpAck, 1000+uint32(last), 1, 1)); got != "asks 12" {
		t.Errorf("%q", got)
	}
	j := packet(client, tcpAck, 1000, 1, 10)
	for i := range 2 * maxSkbs {
		f := j.Facts[0]
		f.Skb = uint64(i)
		j.Facts = append(j.Facts, f)
	}
	c.Tie(j)
	if len(j.Apps) != maxSkbs {
		t.Errorf("%d", len(j.Apps))
	}
}

// While the rest of a head is awaited, the request before it is not what is answered.
func TestTieWhileHeadIsIncomplete(t *testing.T) {
	c := NewConnections(Options{})
	c.Note(payloadOf(client, 1000, head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "traceparent: "+traceparentOf(1))))
	c.Note(payloadOf(client, 5000, get(2)[:30]))
	c.Note(payloadOf(server, 7000, get(3)[:len(get(3))-2]))
	for _, test := range []struct {
		j    *journey.Journey
		want string
	}{
		{packet(client, tcpAck, 4000, 1, 1000), "asks 1"},
		{packet(client, tcpAck, 5000, 1, 30), ""},
		{packet(server, tcpAck, 1, 5000, 10), "answers 1"},
		{packet(server, tcpAck, 1, 5030, 10), ""},
		{packet(server, tcpAck, 7000, 1, 30), "asks 3"}, // its span is known already
		{packet(client, tcpAck, 1, 7030, 10), "answers 3"},
		{packet(client, tcpAck, 1, 8000, 10), ""},
	} {
		if got := tied(c, test.j); got != test.want {
			t.Errorf("%q instead of %q", got, test.want)
		}
	}
}

// The addresses of a connection are translated, on the way or on another one's.
func TestTieThroughNAT(t *testing.T) {
	c := NewConnections(Options{})
	c.Note(payloadOf(client, 1000, get(1)))
	translated := other(77)
	answer := packet(translated.reversed(), tcpAck, 1, 1010, 10)
	if got := tied(c, answer); got != "" {
		t.Errorf("%q before the translation is known", got)
	}
	request := packet(client, tcpAck, 1000, 1, 10)
	request.Facts = append(request.Facts, factsOf(translated, tcpAck, 1000, 1, 10))
	if got := tied(c, request); got != "asks 1" {
		t.Errorf("%q", got)
	}
	if got := tied(c, answer); got != "answers 1" {
		t.Errorf("%q", got)
	}
	back := packet(other(78).reversed(), tcpAck, 1, 1010, 10)
	back.Facts = append(back.Facts, factsOf(translated.reversed(), tcpAck, 1, 1010, 10))
	if got := tied(c, back); got != "answers 1" {
		t.Errorf("%q", got)
	}
	for n := range 10 { // more names than a stream may have
		more := packet(client, tcpAck, 1000, 1, 10)
		more.Facts = append(more.Facts, factsOf(other(100+n), tcpAck, 1000, 1, 10))
		tied(c, more)
	}
	c.Advance(1 << 62)
	if len(c.byTuple) != 0 {
		t.Errorf("%v", c.byTuple)
	}
}

// Both ends ask.
func TestTieBothDirections(t *testing.T) {
	c := NewConnections(Options{})
	c.Note(payloadOf(client, 1000, get(1)))
	c.Note(payloadOf(server, 7000, get(2)))
	if got := tied(c, packet(client, tcpAck, 1000, 7001, 10)); got != "asks 1, answers 2" {
		t.Errorf("%q", got)
	}
	if got := tied(c, packet(server, tcpAck, 7000, 1001, 10)); got != "asks 2, answers 1" {
		t.Errorf("%q", got)
	}
}

// The journey of a SYN comes after payloads of the connection that it began.
func TestTieSyn(t *testing.T) {
	c := NewConnections(Options{})
	c.Note(payloadOf(client, 1000, get(1))) // at 1,000 ns
	c.Note(payloadOf(client, 4000, "PRI * HTTP/2.0\r\n\r\n"))
	syn := func(atMonoNs uint64) {
		j := packet(client, tcpSyn, 90_000, 0, 0)
		j.Facts[0].AtMonoNs = atMonoNs
		tied(c, j)
	}
	syn(1000)
	if got := tied(c, packet(client, tcpAck, 1000, 1, 10)); got != "asks 1" {
		t.Errorf("%q: forgotten by its own SYN", got)
	}
	syn(1001)
	if got := tied(c, packet(client, tcpAck, 1000, 1, 10)); got != "" {
		t.Errorf("%q of an earlier connection", got)
	}
	c.Note(payloadOf(client, 90_001, get(2)))
	if got := tied(c, packet(client, tcpAck, 90_001, 1, 10)); got != "asks 2" {
		t.Errorf("%q", got)
	}
}

// The journey of a SYN with data has the request, whose payload was noted before.
func TestTieSynWithData(t *testing.T) {
	c := NewConnections(Options{})
	p := payloadOf(client, 1000, get(1))
	p.TCPFlags, p.Journey = tcpSyn, 2
	c.Note(p)
	if got := tied(c, packet(client, tcpSyn, 1000, 0, uint32(len(get(1))))); got != "asks 1" {
		t.Errorf("%q", got)
	}
}

// Nothing tells which of two pipelined requests is answered.
func TestTiePipelined(t *testing.T) {
	c := NewConnections(Options{})
	first := post(1, "one")
	end := 1000 + uint32(len(first))
	c.Note(payloadOf(client, 1000, first+post(2, "two")))
	for ack, want := range map[uint32]string{end: "answers 1", end + 10: ""} {
		if got := tied(c, packet(server, tcpAck, 1, ack, 100)); got != want {
			t.Errorf("answer after %d: %q, want %q", ack, got, want)
		}
	}
}

// What acknowledges the end of an answer may come when the next request has been sent.
func TestTieAcknowledgements(t *testing.T) {
	c := NewConnections(Options{})
	first, second := post(1, "one"), post(2, "two")
	end := 1000 + uint32(len(first))
	for _, p := range []*event.Payload{payloadOf(client, 1000, first), payloadOf(client, end, second)} {
		if p.Ack = 1; p.Seq == end {
			p.Ack = 700
		}
		c.Note(p)
	}
	seq := end + uint32(len(second))
	for ack, want := range map[uint32]string{500: "asks 1", 700: "asks 1", 701: "asks 2", 900: "asks 2"} {
		if got := tied(c, packet(client, tcpAck, seq, ack, 0)); got != want {
			t.Errorf("acknowledgement of %d after both requests: %q, want %q", ack, got, want)
		}
	}
}
