package correlate

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// BenchmarkNote tells what a payload costs, of a connection that is known already.
func BenchmarkNote(b *testing.B) {
	typical := head(
		"GET /api/v1/items?page=2 HTTP/1.1", "Host: shop.example.com", "User-Agent: Go-http-client/1.1",
		"Accept: application/json", "Accept-Encoding: gzip", "Authorization: Bearer 0123456789abcdef0123456789abcdef",
		"Traceparent: "+traceparentOf(1), "X-Request-Id: 0123456789",
	)
	for _, bench := range []struct{ name, data string }{
		{"request", typical},
		{"body", "{\"what\":\"no request\"}"},
		{"query", postgres('Q', "select a, b from c where d = 'e' /*traceparent='"+traceparentOf(1)+"'*/\x00")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := NewConnections(Options{})
			c.Note(payloadOf(client, 0, typical))
			p := payloadOf(client, 0, bench.data)
			b.ReportAllocs()
			for b.Loop() {
				p.Seq += 1 << 12
				c.Note(p)
			}
		})
	}
}

// BenchmarkScrub tells what a recording costs besides.
func BenchmarkScrub(b *testing.B) {
	c := NewConnections(Options{})
	p := payloadOf(client, 0, post(1, string(make([]byte, 800))))
	c.Note(p)
	for b.Loop() {
		c.Scrub(p.Data[:p.DataBytes])
	}
}

// BenchmarkTie tells what a journey costs: when nothing is known of any connection,
// nothing of its own, and when it is tied.
func BenchmarkTie(b *testing.B) {
	busy := testConnections()
	for _, bench := range []struct {
		name string
		c    *Connections
		j    *journey.Journey
	}{
		{"nothing known", NewConnections(Options{}), packet(client, tcpAck, 1000, 1, 100)},
		{"another connection", busy, packet(other(1), tcpAck, 1000, 1, 100)},
		{"request", busy, packet(client, tcpAck, 1000, 1, 100)},
		{"answer", busy, packet(server, tcpAck, 1, 2000, 100)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.j.Apps = bench.j.Apps[:0]
				bench.c.Tie(bench.j)
			}
		})
	}
}
