package otelkprobe

import (
	"context"
	"net"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// Server lets the spans of a server's requests have their connections. Call it before
// the server serves; hooks that it has are kept. Which span is a request's is for
// package spanprocessor to tell, or for whoever calls ServerSpans.
//
// A connection belongs to the outermost server span of a request, from the span's start
// on; from its end until the answer has been sent, what is still written belongs to
// it. HTTP/2 connections, which several requests share, are not bound, nor is any without TLS
// where Protocols has HTTP/2 without TLS, nor one that a handler has hijacked.
func Server(s *http.Server) {
	server(s, noteV1)
}

func server(s *http.Server, note noteFunc) {
	if !supported {
		return
	}
	var conns sync.Map // net.Conn to *serverConn, while they are open
	connContext, connState := s.ConnContext, s.ConnState
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, conn)
		}
		bound, ok := socketOf(conn)
		if !ok {
			return ctx
		}
		c := &serverConn{note: note, server: s, conn: conn, socket: bound}
		conns.Store(conn, c)
		return context.WithValue(ctx, serverConnKey{}, c)
	}
	s.ConnState = func(conn net.Conn, to http.ConnState) {
		found, _ := conns.Load(conn)
		if c, ok := found.(*serverConn); ok {
			c.changed(to)
			if to == http.StateClosed || to == http.StateHijacked {
				conns.Delete(conn)
			}
		}
		if connState != nil {
			connState(conn, to)
		}
	}
}

// serverConnKey is where the context of a request has its *serverConn.
type serverConnKey struct{}

// serverConn is a connection that requests come on, one after the other.
type serverConn struct {
	note   noteFunc
	server *http.Server
	conn   net.Conn
	socket socket

	mu     sync.Mutex
	active bool // a request is being served
	// The span that it is bound to, none when invalid, and who must forget that.
	span  trace.SpanContext
	ended bool
	spans *ServerSpans
}

// changed follows net/http: a connection is active while there is a request, and idle
// when the answer to it has been sent.
func (c *serverConn) changed(to http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = to == http.StateActive
	if c.active || !c.span.IsValid() {
		return
	}
	c.socket.state(c.note, whatReleases, c.span)
	c.spans.conns.Delete(keyOf(c.span))
	c.span, c.ended, c.spans = trace.SpanContext{}, false, nil
}

// shared says whether several requests may use the connection at a time.
func (c *serverConn) shared() bool {
	if speaksHTTP2(c.conn) {
		return true
	}
	p := c.server.Protocols
	_, secure := c.conn.(interface{ HandshakeContext(context.Context) error })
	return !secure && p != nil && p.UnencryptedHTTP2()
}

// ServerSpans knows which connections are bound to spans that have not ended, for those
// who tell of spans. The zero value is ready.
type ServerSpans struct {
	conns sync.Map // spanKey to *serverConn
}

// spanKey is what of a span context can be compared.
type spanKey struct {
	trace trace.TraceID
	span  trace.SpanID
}

func keyOf(span trace.SpanContext) spanKey { return spanKey{span.TraceID(), span.SpanID()} }

// Started binds the connection of a request, which is known from the request's context,
// to a server span. It does nothing while another one has it: that is the outermost.
func (s *ServerSpans) Started(ctx context.Context, span trace.SpanContext) {
	c, ok := ctx.Value(serverConnKey{}).(*serverConn)
	if !ok || !span.IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.active || c.span.IsValid() && !c.ended || c.shared() {
		return
	}
	if c.socket.state(c.note, whatAnswers, span) {
		c.span, c.ended, c.spans = span, false, s
		s.conns.Store(keyOf(span), c)
	}
}

// Ended states that only what is still written to the span's connection belongs to it.
func (s *ServerSpans) Ended(span trace.SpanContext) {
	found, _ := s.conns.LoadAndDelete(keyOf(span))
	c, ok := found.(*serverConn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if keyOf(c.span) == keyOf(span) {
		c.socket.state(c.note, whatLingers, span)
		c.ended = true
	}
}
