package correlate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// piece is one packet of a stream.
type piece struct {
	seq  uint32
	data string
}

// What several packets of one direction tell together.
func TestStreams(t *testing.T) {
	g, p, body := get(1), post(2, "body"), post(2, get(1)+get(1))
	end := func(n int) string { return fmt.Sprint(1000 + n) }
	upgrade := head("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: websocket", "traceparent: "+traceparentOf(1))
	h2c := head("GET / HTTP/1.1", "Upgrade: h2c", "traceparent: "+traceparentOf(1))
	connect := head("CONNECT a:443 HTTP/1.1", "traceparent: "+traceparentOf(1))
	chunked := head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "traceparent: "+traceparentOf(3))
	query := postgres('Q', "select 1 /*traceparent='"+traceparentOf(1)+"'*/\x00")
	long := "X: " + strings.Repeat("x", 900)
	for _, test := range []struct {
		name   string
		pieces []piece
		want   []string
		counts Counters
	}{
		{"split", []piece{{1000, g[:30]}, {1030, g[30:40]}, {1040, g[40:]}}, []string{"1000-" + end(len(g)) + " 1"}, Counters{Requests: 1, Contexts: 1}},
		{"split in the method", []piece{{1000, p + "GE"}, {1000 + uint32(len(p)) + 2, g[2:]}}, []string{
			"1000-" + end(len(p)) + " 2", end(len(p)) + "-" + end(len(p)+len(g)) + " 1",
		}, Counters{Requests: 2, Contexts: 2}},
		{"split query", []piece{{1000, query[:30]}, {1030, query[30:]}}, []string{"1000-" + end(len(query)) + " 1"}, Counters{Requests: 1, Contexts: 1}},
		{"sent again", []piece{{1000, g}, {1000, g}}, []string{"1000-" + end(len(g)) + " 1"}, Counters{Requests: 1, Contexts: 1}},
		{
			"sent again in other pieces",
			[]piece{{1000, g[:30]}, {1000, g[:30]}, {1010, g[10:40]}, {1000, g}},
			[]string{"1000-" + end(len(g)) + " 1"},
			Counters{Requests: 1, Contexts: 1},
		},
		{
			"piece lost, then sent",
			[]piece{{1000, g[:30]}, {1040, g[40:]}, {1030, g[30:]}},
			[]string{"1000-" + end(len(g)) + " 1"},
			Counters{Requests: 1, Contexts: 1},
		},
		{
			"piece lost for good",
			[]piece{{1000, g[:30]}, {1000 + uint32(len(g)), p}},
			[]string{"1000-… -", end(len(g)) + "-" + end(len(g)+len(p)) + " 2"},
			Counters{Requests: 2, Contexts: 1, Broken: 1},
		},
		{
			"too long",
			[]piece{
				{1000, "GET / HTTP/1.1\r\n" + long}, {1919, long}, {2822, long}, {3725, long}, {4628, long}, {5531, "\r\n\r\n"},
			},
			[]string{"1000-… -"},
			Counters{Requests: 1, Cut: 1},
		},
		{
			"order",
			[]piece{{1000 + uint32(len(g)), p}, {1000, g}},
			[]string{"1000-" + end(len(g)) + " 1", end(len(g)) + "-" + end(len(g)+len(p)) + " 2"},
			Counters{Requests: 2, Contexts: 2},
		},
		{
			"a head in the body",
			[]piece{{1000, body[:len(body)-len(g)]}, {1000 + uint32(len(body)-len(g)), g}},
			[]string{"1000-" + end(len(body)) + " 2"},
			Counters{Requests: 1, Contexts: 1},
		},
		{
			"a head in the body that came first",
			[]piece{{1100, g}, {1000, body}},
			[]string{"1000-" + end(len(body)) + " 2"},
			Counters{Requests: 2, Contexts: 2},
		},
		{"chunked, then another", []piece{{1000, chunked}, {3000, "data"}, {4000, g}}, []string{
			"1000-… 3", "4000-" + fmt.Sprint(4000+len(g)) + " 1",
		}, Counters{Requests: 2, Contexts: 2}},
		{"upgrade", []piece{{1000, upgrade}, {1000 + uint32(len(upgrade)), g}}, []string{"1000-" + end(len(upgrade)) + " 1"}, Counters{Requests: 1, Contexts: 1}},
		{"connect", []piece{{1000, connect}, {1000 + uint32(len(connect)), g}}, []string{"1000-" + end(len(connect)) + " 1"}, Counters{Requests: 1, Contexts: 1}},
		{"offers http/2", []piece{{1000, h2c}, {1000 + uint32(len(h2c)), p}}, []string{
			"1000-" + end(len(h2c)) + " 1", end(len(h2c)) + "-" + end(len(h2c)+len(p)) + " 2",
		}, Counters{Requests: 2, Contexts: 2}},
		{"http/2", []piece{{1000, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, {1024, g}}, nil, Counters{}},
		{"another connection", []piece{{1000, g}, {0xc0000000, g}}, []string{
			fmt.Sprintf("%d-%d 1", uint32(0xc0000000), 0xc0000000+uint32(len(g))),
		}, Counters{Requests: 2, Contexts: 2}},
		{"more than are kept", pieces(20), knownPieces(20)[4:], Counters{Requests: 20, Contexts: 20}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewConnections(Options{})
			for _, p := range test.pieces {
				c.Note(payloadOf(client, p.seq, p.data))
			}
			if diff := cmp.Diff(test.want, known(c, client)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.counts, c.Counters()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// pieces are requests 1, 2 … of the same length in packets of their own.
func pieces(count int) (list []piece) {
	for i := 1; i <= count; i++ {
		list = append(list, piece{uint32(1000 * i), get(i)})
	}
	return list
}

func knownPieces(count int) (list []string) {
	for i := 1; i <= count; i++ {
		list = append(list, fmt.Sprintf("%d-%d %d", 1000*i, 1000*i+len(get(i)), i))
	}
	return list
}

// A SYN with data begins another connection, and has a sequence number of its own.
func TestSynResets(t *testing.T) {
	c := NewConnections(Options{})
	c.Note(payloadOf(client, 500, get(1)))
	p := payloadOf(client, 1000, get(2))
	p.TCPFlags = tcpSyn
	c.Note(p)
	if diff := cmp.Diff([]string{fmt.Sprintf("1001-%d 2", 1001+len(get(2)))}, known(c, client)); diff != "" {
		t.Error(diff)
	}
}

// The option counts where the payload names no span.
func TestOptions(t *testing.T) {
	plain := head("GET / HTTP/1.1")
	end := 1000 + len(plain)
	for _, test := range []struct {
		name     string
		payloads []*event.Payload
		want     []string
	}{
		{"what can't be read", []*event.Payload{withOption(payloadOf(client, 1000, "\x17\x03\x03"), span(5))}, []string{"1000-… 5"}},
		{"no data", []*event.Payload{withOption(payloadOf(client, 1000, ""), span(5))}, []string{"1000-… 5"}},
		{
			"segments of one packet",
			[]*event.Payload{
				withOption(payloadOf(client, 1000, "\x17\x03\x03"), span(5)), withOption(payloadOf(client, 1003, "more"), span(5)),
			},
			[]string{"1000-… 5"},
		},
		{
			"two requests",
			[]*event.Payload{
				withOption(payloadOf(client, 1000, "\x17\x03\x03"), span(5)), withOption(payloadOf(client, 1003, "more"), span(6)),
			},
			[]string{"1000-… 5", "1003-… 6"},
		},
		{"head without", []*event.Payload{withOption(payloadOf(client, 1000, plain), span(5))}, []string{fmt.Sprintf("1000-%d 5", end)}},
		{"head with", []*event.Payload{withOption(payloadOf(client, 1000, get(1)), span(5))}, []string{fmt.Sprintf("1000-%d 1", 1000+len(get(1)))}},
		{
			"split head",
			[]*event.Payload{withOption(payloadOf(client, 1000, plain[:10]), span(5)), payloadOf(client, 1010, plain[10:])},
			[]string{fmt.Sprintf("1000-%d 5", end)},
		},
		{
			"second head of a packet",
			[]*event.Payload{withOption(payloadOf(client, 1000, plain+plain), span(5))},
			[]string{fmt.Sprintf("1000-%d 5", end), fmt.Sprintf("%d-%d -", end, end+len(plain))},
		},
		{
			"within a request",
			[]*event.Payload{payloadOf(client, 1000, post(1, "0123456789")), withOption(payloadOf(client, 1100, "9"), span(5))},
			[]string{fmt.Sprintf("1000-%d 1", 1000+len(post(1, "0123456789")))},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewConnections(Options{})
			for _, p := range test.payloads {
				c.Note(p)
			}
			if diff := cmp.Diff(test.want, known(c, client)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// other is the direction of another connection.
func other(n int) tuple {
	t := client
	t.source[0], t.sourcePort = byte(n>>16), uint16(n)
	return t
}

func TestMemoryIsBounded(t *testing.T) {
	c := NewConnections(Options{MaxConnections: 3})
	for n := range 5 {
		c.Note(payloadOf(other(n), 1000, get(n+1)))
		c.Note(payloadOf(other(0), 1000, get(1))) // in use
	}
	c.Note(payloadOf(other(9), 1000, "no request")) // no reason to remember it
	if c.count != 3 || len(c.byTuple) != 3 || c.byTuple[other(0)] == nil || c.byTuple[other(3)] == nil || c.byTuple[other(4)] == nil {
		t.Errorf("%d streams, %v", c.count, c.byTuple)
	}
	if got := c.Counters().Forgotten; got != 2 {
		t.Errorf("%d forgotten", got)
	}
}

func TestIdleConnectionsAreForgotten(t *testing.T) {
	c := NewConnections(Options{IdleNs: 100})
	c.Note(payloadOf(other(1), 1000, get(1)))
	c.Note(payloadOf(other(2), 1000, get(2)))
	c.Advance(1050)
	c.Tie(packet(other(1), tcpAck, 5000, 1, 0)) // used, whatever it is tied to
	c.Advance(1100)
	if c.byTuple[other(2)] != nil || c.byTuple[other(1)] == nil {
		t.Errorf("%v", c.byTuple)
	}
	c.Advance(1150)
	if c.count != 0 || len(c.byTuple) != 0 || c.front != nil || c.back != nil {
		t.Errorf("%d streams, %v", c.count, c.byTuple)
	}
}
