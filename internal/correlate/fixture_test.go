package correlate

import (
	"fmt"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// Of the connection of all tests: the client makes the requests.
var (
	client = tuple{source: [16]byte{10, 0, 0, 1}, destination: [16]byte{10, 0, 0, 2}, sourcePort: 40000, destinationPort: 80, family: 4}
	server = client.reversed()
)

// span is the n-th span of an application.
func span(n int) event.AppContext {
	return event.AppContext{TraceID: [16]byte{0: 0xaa, 14: byte(n >> 8), 15: byte(n)}, SpanID: [8]byte{0: 0xbb, 6: byte(n >> 8), 7: byte(n)}}
}

// number gives n of a span(n), for short tables.
func number(c event.AppContext) int { return int(c.SpanID[6])<<8 | int(c.SpanID[7]) }

// traceparentOf is the traceparent of span(n).
func traceparentOf(n int) string {
	c := span(n)
	return fmt.Sprintf("00-%x-%x-01", c.TraceID, c.SpanID)
}

// get is a request without a body.
func get(n int) string {
	return "GET /a HTTP/1.1\r\nHost: b\r\ntraceparent: " + traceparentOf(n) + "\r\n\r\n"
}

// post is a request with one.
func post(n int, body string) string {
	return fmt.Sprintf("POST /a HTTP/1.1\r\nContent-Length: %d\r\ntraceparent: %s\r\n\r\n%s", len(body), traceparentOf(n), body)
}

// payloadOf is what is told of a packet of t with data.
func payloadOf(t tuple, seq uint32, data string) *event.Payload {
	p := &event.Payload{
		Source: t.source, Destination: t.destination, SourcePort: t.sourcePort, DestinationPort: t.destinationPort,
		Family: t.family, Seq: seq, Ack: seq / 10, Length: uint32(len(data)), TCPFlags: tcpAck, AtMonoNs: 1000, Journey: 1,
	}
	p.DataBytes = uint16(copy(p.Data[:], data))
	return p
}

// withOption adds the TCP option, behind those that Linux sends with each packet.
func withOption(p *event.Payload, c event.AppContext) *event.Payload {
	o := append([]byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 25, 26}, c.TraceID[:]...)
	p.OptionBytes = uint8(copy(p.Options[:], append(o, c.SpanID[:]...)))
	return p
}

// packet is the journey of a packet of t.
func packet(t tuple, flags uint8, seq, ack, payload uint32) *journey.Journey {
	return &journey.Journey{ID: 2, Facts: []event.Facts{factsOf(t, flags, seq, ack, payload)}}
}

func factsOf(t tuple, flags uint8, seq, ack, payload uint32) event.Facts {
	return event.Facts{
		Journey: 2, Skb: 0xf0, AtMonoNs: 2000, Number: 1, Protocol: protocolNumberTCP, Family: t.family,
		Flags:  event.FactsStart | event.FactsTuple | event.FactsPorts,
		Source: t.source, Destination: t.destination, SourcePort: t.sourcePort, DestinationPort: t.destinationPort,
		TCPFlags: flags, TCPSeq: seq, TCPAck: ack, TCPPayload: payload,
	}
}

// tied is what Tie adds, as "asks 3, answers 4".
func tied(c *Connections, j *journey.Journey) string {
	had := len(j.Apps)
	c.Tie(j)
	var s []string
	for _, a := range j.Apps[had:] {
		word := map[event.AppWhat]string{event.AppRequests: "asks", event.AppAnswers: "answers"}[a.What]
		if a.Source == event.AppTCPOption {
			word = "option " + word
		}
		if a.Flags&event.AppUnsampled != 0 {
			word = "unsampled " + word
		}
		s = append(s, fmt.Sprintf("%s %d", word, number(a.Context)))
	}
	return strings.Join(s, ", ")
}

// known lists the requests of a stream, as "1000-1100 3": from, to, span; "…" of an
// open one, "-" without a span.
func known(c *Connections, t tuple) []string {
	s := c.byTuple[t]
	if s == nil {
		return nil
	}
	var list []string
	for _, r := range s.requests[:s.count] {
		end := fmt.Sprint(r.end)
		if r.open {
			end = "…"
		}
		context := "-"
		if r.source != 0 {
			context = fmt.Sprint(number(r.context))
		}
		list = append(list, fmt.Sprintf("%d-%s %s", r.begin, end, context))
	}
	return list
}
