package correlate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// asked is a request of a random stream: bytes [from, to) of it, with a span or
// without (0).
type asked struct{ from, to, span int }

// stretch is a random stream of requests, and where packets must not be cut through.
type stretch struct {
	data     string
	requests []asked
	begins   []int // where a packet must begin
}

// randomStream makes at most as many requests as are remembered.
func randomStream(r *rand.Rand) (s stretch) {
	for n := 1; n <= 1+r.IntN(maxRequests-1); n++ {
		request, open, span := randomRequest(r, n)
		from := len(s.data)
		s.data += request
		s.requests = append(s.requests, asked{from, len(s.data), span})
		if open { // it ends with the next one that begins a packet
			s.begins = append(s.begins, len(s.data))
		}
		if !open && r.IntN(8) == 0 { // what is no request
			s.data += strings.Repeat("?", 1+r.IntN(30))
			s.begins = append(s.begins, len(s.data))
		}
	}
	return s
}

func randomRequest(r *rand.Rand, n int) (request string, open bool, span int) {
	parent := fmt.Sprintf("%s: %s", []string{"traceparent", "Traceparent", "TRACEPARENT"}[r.IntN(3)], traceparentOf(n))
	lines := []string{"Host: " + strings.Repeat("h", r.IntN(60)), "Cookie: a=" + strings.Repeat("c", r.IntN(200))}
	span = n
	switch r.IntN(6) {
	case 0:
		span = 0
	case 1:
		lines, span = append(lines, parent, parent), 0
	default:
		lines = append(lines, parent)
	}
	body := strings.Repeat("b", r.IntN(1500))
	switch r.IntN(6) {
	case 0, 1:
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	case 2:
		body, open = "5\r\nhello\r\n0\r\n\r\n", true
		lines = append(lines, "Transfer-Encoding: chunked")
	case 3:
		text := "select '/*" + parent + "*/' "
		if span == n {
			text += "/*a='b',traceparent='" + traceparentOf(n) + "'*/"
		} else {
			span = 0
		}
		return postgres('Q', text+"\x00"), false, span
	default:
		body = ""
	}
	r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return head(append([]string{"POST /secret?a=b HTTP/1.1"}, lines...)...) + body, open, span
}

// cut is a packet: bytes [from, to) of a stream.
type cut struct{ from, to int }

// packets cuts a stream, sends some again, and begins some a little earlier.
func (s *stretch) packets(r *rand.Rand) (list []cut) {
	for at := 0; at < len(s.data); {
		to := min(at+1+r.IntN([]int{20, 400, event.MaxPayloadBytes}[r.IntN(3)]), len(s.data))
		for _, b := range s.begins {
			if at < b && b < to {
				to = b
			}
		}
		// A SQL message is recognised by its first five bytes.
		for _, q := range s.requests {
			if q.from < to && to < q.from+sqlHeaderBytes && s.data[q.from] == 'Q' {
				to = q.from + sqlHeaderBytes
			}
		}
		p := cut{at, to}
		if len(list) > 0 && r.IntN(5) == 0 {
			p.from = max(list[len(list)-1].from, at-r.IntN(40), to-event.MaxPayloadBytes)
			for _, b := range s.begins {
				if b <= at {
					p.from = max(p.from, b)
				}
			}
		}
		list = append(list, p)
		if r.IntN(5) == 0 {
			list = append(list, list[r.IntN(len(list))])
		}
		at = to
	}
	return list
}

// spans are those that a packet should get: of all requests that it has bytes of.
func (s *stretch) spans(p cut) string {
	var want []string
	for _, q := range s.requests {
		if q.from < p.to && p.from < q.to && q.span != 0 && len(want) < maxContexts {
			want = append(want, fmt.Sprintf("asks %d", q.span))
		}
	}
	return strings.Join(want, ", ")
}

// ack is what a packet acknowledges: the answers to all requests that had been sent
// whole before it.
func (s *stretch) ack(p cut) uint32 {
	answers := uint32(0)
	for _, q := range s.requests {
		if q.to <= p.from {
			answers++
		}
	}
	return answers
}

// ackOf is that of the packet that request i begins in.
func (s *stretch) ackOf(i int, packets []cut) uint32 {
	for _, p := range packets {
		if q := s.requests[i]; p.from <= q.from && q.from < p.to {
			return s.ack(p)
		}
	}
	return 0
}

// However a stream is cut into packets, and whatever is sent again, each packet gets
// the spans of the requests of which it carries bytes, and no others.
func TestEveryPacketGetsItsRequests(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := randomStream(r)
		first := r.Uint32()
		if seed%4 == 0 {
			first = -uint32(r.IntN(len(s.data))) // sequence numbers wrap within it
		}
		packets := s.packets(r)
		c, replayed := NewConnections(Options{}), NewConnections(Options{})
		for _, p := range packets {
			payload := payloadOf(client, first+uint32(p.from), s.data[p.from:p.to])
			payload.Ack = s.ack(p)
			noteAndReplay(t, c, replayed, payload)
		}
		for _, p := range packets {
			for i, c := range []*Connections{c, replayed} {
				got := tied(c, packet(client, tcpAck, first+uint32(p.from), 1, uint32(p.to-p.from)))
				if diff := cmp.Diff(s.spans(p), got); diff != "" {
					t.Fatalf("seed %d, scrubbed %d, packet %v of %v %v:\n%s\n%q\n%v", seed, i, p, s.requests, packets, diff, s.data, known(c, client))
				}
			}
		}
		for i, q := range s.requests {
			want := ""
			if q.span != 0 && (i == 0 || s.ackOf(i, packets) != s.ackOf(i-1, packets)) {
				want = fmt.Sprintf("answers %d", q.span)
			}
			if got := tied(c, packet(server, tcpAck, 1, first+uint32(q.to), 10)); got != want {
				t.Fatalf("seed %d: %q instead of %q to %v of %v", seed, got, want, q, s.requests)
			}
		}
	}
}

// Whatever payloads are lost, no packet gets the span of a request of which it has no
// bytes, and no answer that of a request that it can't be to.
func TestLostPayloadsNameNoOtherSpan(t *testing.T) {
	found := 0
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := randomStream(r)
		for strings.Contains(s.data, "chunked") { // where a request ends must be known
			s = randomStream(r)
		}
		c := NewConnections(Options{})
		packets := s.packets(r)
		for _, p := range packets {
			if r.IntN(4) > 0 {
				c.Note(payloadOf(client, uint32(p.from), s.data[p.from:p.to]))
			}
		}
		for _, p := range packets {
			got := tied(c, packet(client, tcpAck, uint32(p.from), 1, uint32(p.to-p.from)))
			want := []string{""}
			for i, q := range s.requests {
				if q.from < p.to && p.from < q.to { // the other one of its two traceparents may be lost
					want = append(want, fmt.Sprintf("asks %d", i+1))
				}
			}
			for _, g := range strings.Split(got, ", ") {
				if !slices.Contains(want, g) {
					t.Fatalf("seed %d: %q instead of %q, %v of %v", seed, got, want, p, s.requests)
				}
			}
			found += len(got)
		}
		for i, q := range s.requests {
			got := tied(c, packet(server, tcpAck, 1, uint32(q.to), 10))
			if got != "" && got != fmt.Sprintf("answers %d", i+1) {
				t.Fatalf("seed %d: %q to request %d of %v", seed, got, i, s.requests)
			}
			found += len(got)
		}
	}
	if found == 0 {
		t.Error("nothing is tied")
	}
}

// noteAndReplay notes a payload, scrubs it, and notes that elsewhere.
func noteAndReplay(t *testing.T, c, replayed *Connections, p *event.Payload) {
	t.Helper()
	c.Note(p)
	data := p.Data[:p.DataBytes]
	c.Scrub(data)
	scrubbed := slices.Clone(data)
	replayed.Note(p)
	replayed.Scrub(data)
	if !slices.Equal(scrubbed, data) {
		t.Fatalf("scrubbed again it is another:\n%q\n%q", scrubbed, data)
	}
	for _, secret := range []string{"secret", "cccc", "hhhh", "bbbb"} {
		if strings.Contains(string(data), secret) {
			t.Fatalf("%q is left", data)
		}
	}
	if diff := cmp.Diff(c.Counters(), replayed.Counters()); diff != "" {
		t.Fatalf("%q counts as:\n%s", data, diff)
	}
	if diff := cmp.Diff(known(c, client), known(replayed, client)); diff != "" {
		t.Fatalf("%q tells:\n%s", data, diff)
	}
}

// What Scrub leaves of typical payloads.
func TestScrub(t *testing.T) {
	parent := "traceparent: " + traceparentOf(1)
	for _, test := range []struct {
		name string
		data []string // of packets that follow on one another
		want []string
	}{
		{
			"head and body",
			[]string{head("POST /a?b=c HTTP/1.1", "Cookie: d", parent, "Content-Length: 4") + "body"},
			[]string{head("POST /xxxxx HTTP/1.1", "xxxxxxxxx", parent, "Content-Length: 4") + "xxxx"},
		},
		{
			"split in names and values",
			[]string{"GET /a HT", "TP/1.1\r\nCookie: tra", "ce\r\ntracep", "arent: 00-", traceparentOf(1)[3:] + "\r\nA: b", "c\r\n\r", "\n"},
			[]string{"GET /x HT", "TP/1.1\r\nxxxxxxxxxxx", "xx\r\ntracep", "arent: 00-", traceparentOf(1)[3:] + "\r\nxxxx", "x\r\n\r", "\n"},
		},
		{"what goes on", []string{post(1, strings.Repeat("b", 900)), "password" + get(1)}, []string{
			strings.Replace(post(1, strings.Repeat("x", 900)), "/a", "/x", 1), strings.Repeat("x", len("password"+get(1))),
		}},
		{
			"query",
			[]string{postgres('Q', "select 'a' /*b='c',traceparent='"+traceparentOf(1)+"'*/\x00")},
			[]string{postgres('Q', "xxxxxxxxxxx/*xxxxx,traceparent='"+traceparentOf(1)+"'*/\x00")},
		},
		{
			"split query",
			[]string{mysql("select 'a' /*b='c', trace" + "parent='" + traceparentOf(1) + "'*/ d")[:30], "parent='" + traceparentOf(1) + "'*/ d"},
			[]string{mysql("xxxxxxxxxxx/*xxxxx, trace" + "parent='" + traceparentOf(1) + "'*/xx")[:30], "parent='" + traceparentOf(1) + "'*/xx"},
		},
		{"no request", []string{"password"}, []string{"xxxxxxxx"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewConnections(Options{})
			seq := uint32(1000)
			var got []string
			for _, d := range test.data {
				c.Note(payloadOf(client, seq, d))
				b := []byte(d)
				c.Scrub(b)
				got = append(got, string(b))
				seq += uint32(len(d))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzNote takes any packets at all: each a length, a sequence number, flags and data.
func FuzzNote(f *testing.F) {
	seed := func(parts ...string) {
		var b []byte
		seq := byte(0)
		for _, p := range parts {
			p = p[:min(len(p), 255)]
			b = append(append(b, byte(len(p)), seq, 0), p...)
			seq += byte(len(p))
		}
		f.Add(b)
	}
	seed(get(1), post(2, "body")+get(3))
	seed(get(1)[:30], get(1)[30:60], get(1)[60:])
	seed(head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 3", " 4"), "GET", get(1))
	seed(head("CONNECT a:1 HTTP/1.1"), head("GET / HTTP/1.1", "Upgrade: a"), "PRI * HTTP/2.0\r\n\r\n")
	seed(postgres('P', "a\x00select 'b' /*c='d',traceparent='"+traceparentOf(1)+"'*/\x00") + postgres('S', ""))
	seed(mysql("select `a` -- b\n/*traceparent='" + traceparentOf(1) + "'*/"))
	seed("\r00\x00\x03/", mysql("select 10000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, replayed := NewConnections(Options{MaxConnections: 2}), NewConnections(Options{MaxConnections: 2})
		for len(b) >= 3 {
			n, flags := min(int(b[0]), len(b)-3), b[2]
			p := payloadOf(other(int(flags>>6)), uint32(b[1])<<(flags&0x18), string(b[3:3+n]))
			p.Length += uint32(flags>>5&1) * uint32(b[1])
			p.TCPFlags, p.AtMonoNs = flags&7, uint64(b[1])
			if flags&7 == 7 {
				withOption(p, span(n))
			}
			b = b[3+n:]
			fuzzNote(t, c, replayed, p)
			j := packet(other(int(flags>>6)), flags&0x17, p.Seq, p.Seq+100, p.Length)
			if live, later := tied(c, j), tied(replayed, j); live != later {
				t.Fatalf("%q, and of a recording %q", live, later)
			}
		}
	})
}

// fuzzNote is noteAndReplay, and checks what always holds.
func fuzzNote(t *testing.T, c, replayed *Connections, p *event.Payload) {
	t.Helper()
	c.Note(p)
	c.Scrub(p.Data[:p.DataBytes])
	replayed.Note(p)
	if c.Counters() != replayed.Counters() {
		t.Fatalf("%q: %+v %+v", p.Data[:p.DataBytes], c.Counters(), replayed.Counters())
	}
	for n := range 4 {
		if diff := cmp.Diff(known(c, other(n)), known(replayed, other(n))); diff != "" {
			t.Fatalf("%q: %s", p.Data[:p.DataBytes], diff)
		}
		s := c.byTuple[other(n)]
		if s == nil {
			continue
		}
		for i := range s.requests[:s.count] {
			if r := &s.requests[i]; i > 0 && !before(s.requests[i-1].begin, r.begin) || r.source != 0 && !r.context.Valid() {
				t.Fatalf("%q: %v", p.Data[:p.DataBytes], known(c, other(n)))
			}
		}
		if len(s.head) > maxHeadBytes+event.MaxPayloadBytes {
			t.Fatalf("%d bytes of a head", len(s.head))
		}
	}
	if c.count > 2 {
		t.Fatalf("%d streams", c.count)
	}
}

// FuzzScrub takes one payload, with the head of another one before it.
func FuzzScrub(f *testing.F) {
	f.Add(get(1), uint16(20))
	f.Add(post(1, "body")+get(2), uint16(0))
	f.Add(postgres('Q', "select '/*' /*traceparent='"+traceparentOf(1)+"'*/\x00"), uint16(12))
	f.Add(mysql("select 1 /*traceparent='"+traceparentOf(1)+"'*/"), uint16(30))
	f.Fuzz(func(t *testing.T, data string, at uint16) {
		data = data[:min(len(data), event.MaxPayloadBytes)]
		at = min(at, uint16(len(data)))
		c, replayed := NewConnections(Options{MaxConnections: 2}), NewConnections(Options{MaxConnections: 2})
		fuzzNote(t, c, replayed, payloadOf(other(1), 1000, data[:at]))
		fuzzNote(t, c, replayed, payloadOf(other(1), 1000+uint32(at), data[at:]))
		j := packet(other(1), tcpAck, 1000, 1, uint32(len(data)))
		if live, later := tied(c, j), tied(replayed, j); live != later {
			t.Fatalf("%q, and of a recording %q", live, later)
		}
		fuzzNote(t, c, replayed, payloadOf(other(1), 1000+uint32(len(data)), "\r\n\r\n"))
	})
}
