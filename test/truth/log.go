package truth

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// Part is the bytes of one request, or of its answer, on one connection in one
// direction: the first byte after the handshake of TCP is 0.
type Part struct {
	Request  int // its number
	From, To int64
}

// Connection is what one end of a TCP connection has seen of it.
type Connection struct {
	Client, Server netip.AddrPort
	// DialledFor is the request for which the client dialled, 0 when this end does not
	// know: what TCP and TLS exchange before the first request is of that one.
	DialledFor int
	Requests   []Part
	Answers    []Part
}

// Exchange is one request with its answer. Ids are hexadecimal, "" of a span that
// nothing may be tied to.
type Exchange struct {
	Request    int
	TraceID    string
	ClientSpan string
	ServerSpan string
	File       string // that the server wrote for it
}

// Log is what one end has seen of all connections.
type Log struct {
	Connections []Connection
	Exchanges   []Exchange
}

// Truth is what both ends have seen.
type Truth struct {
	exchanges   map[int]Exchange
	connections map[[2]netip.AddrPort]*Connection
}

// New joins the logs of both ends. Of a connection that both have, the client's
// requests and the server's answers count: each wrote them. With a proxy between them
// each end has connections of its own.
func New(client, server Log) (*Truth, error) {
	t := &Truth{exchanges: map[int]Exchange{}, connections: map[[2]netip.AddrPort]*Connection{}}
	for _, e := range client.Exchanges {
		if _, twice := t.exchanges[e.Request]; twice {
			return nil, fmt.Errorf("join the logs: the client has request %d twice", e.Request)
		}
		t.exchanges[e.Request] = e
	}
	for _, e := range server.Exchanges {
		known, ok := t.exchanges[e.Request]
		if !ok || known.ServerSpan != "" {
			return nil, fmt.Errorf("join the logs: request %d came to the server once too often", e.Request)
		}
		known.ServerSpan, known.File = e.ServerSpan, e.File
		t.exchanges[e.Request] = known
	}
	for _, c := range client.Connections {
		key := [2]netip.AddrPort{c.Client, c.Server}
		if t.connections[key] != nil {
			return nil, fmt.Errorf("join the logs: the client has a connection from %s twice", c.Client)
		}
		t.connections[key] = &c
	}
	for _, c := range server.Connections {
		key := [2]netip.AddrPort{c.Client, c.Server}
		if known := t.connections[key]; known != nil {
			known.Answers = c.Answers
		} else {
			t.connections[key] = &c
		}
	}
	for _, c := range t.connections {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// check expects the parts of each direction to follow each other.
func (c *Connection) check() error {
	for _, parts := range [][]Part{c.Requests, c.Answers} {
		at := int64(0)
		for _, p := range parts {
			if p.From < at || p.To < p.From {
				return fmt.Errorf("join the logs: bytes %d to %d of request %d, from %s, are not behind byte %d", p.From, p.To, p.Request, c.Client, at)
			}
			at = p.To
		}
	}
	return nil
}

// Exchanges are all requests, by their numbers.
func (t *Truth) Exchanges() []Exchange {
	all := make([]Exchange, 0, len(t.exchanges))
	for _, e := range t.exchanges {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Exchange) int { return cmp.Compare(a.Request, b.Request) })
	return all
}

// setupEnd is where the first request or answer begins: before that TLS agrees on keys,
// also on connections that no request needed any more.
func setupEnd(parts []Part) int64 {
	if len(parts) == 0 {
		return math.MaxInt64
	}
	return parts[0].From
}

// owners are the requests that the bytes from from to to of one direction are of, in
// their order; before the first part it is the one that the connection was made for.
func (c *Connection) owners(fromClient bool, from, to int64) (requests []int) {
	parts := c.Answers
	if fromClient {
		parts = c.Requests
	}
	if from < setupEnd(parts) && c.DialledFor != 0 {
		requests = append(requests, c.DialledFor)
	}
	for _, p := range parts {
		if p.From < to && p.To > from && !slices.Contains(requests, p.Request) {
			requests = append(requests, p.Request)
		}
	}
	return requests
}
