package otelkprobe

import (
	"crypto/tls"
	"net"
	"syscall"

	"go.opentelemetry.io/otel/trace"
)

// maxWrappers bounds the layers that a connection is unwrapped from.
const maxWrappers = 8

// socket is a connection's innermost layer: what all that wrap it have in common.
type socket struct {
	key net.Conn // innermost
	raw syscall.RawConn
}

// socketOf finds the socket below a connection and its wrappers, such as *tls.Conn. It
// gives false for what is none (net.Pipe), or hides it.
func socketOf(c net.Conn) (socket, bool) {
	for range maxWrappers {
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapper.NetConn()
	}
	owner, ok := c.(syscall.Conn)
	if !ok {
		return socket{}, false
	}
	raw, err := owner.SyscallConn()
	return socket{key: c, raw: raw}, err == nil
}

// state states something of the socket. It gives false when the socket is closed,
// or the span has no ids.
// Control keeps its descriptor from being closed, and used for another, meanwhile.
func (s socket) state(note noteFunc, what uint64, span trace.SpanContext) bool {
	of, ok := statementOf(what, &span)
	return ok && s.raw.Control(func(fd uintptr) {
		note(of.what, of.traceHigh, of.traceLow, of.span, 0, uint64(fd))
	}) == nil
}

// speaksHTTP2 says whether the connection has agreed on HTTP/2 (RFC 9113, section 3.2),
// which is known after its TLS handshake. What it carries then belongs to many requests.
func speaksHTTP2(c net.Conn) bool {
	for range maxWrappers {
		if secure, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
			return secure.ConnectionState().NegotiatedProtocol == "h2"
		}
		wrapper, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return false
		}
		c = wrapper.NetConn()
	}
	return false
}
