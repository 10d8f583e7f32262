package otelkprobe

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// NewTransport binds the connection of each request to the span in the request's
// context, until the response has been read or its body closed. It goes inside the
// transport that makes the spans: otelhttp.NewTransport(otelkprobe.NewTransport(nil)).
//
// Without a base it uses a clone of http.DefaultTransport that binds connections while
// they are dialled, too. Let a base of your own dial with DialContext to get the same.
// A base must not be shared with another transport of this package.
//
// Not bound are HTTP/2 connections, which several requests share, and connections that
// have switched to another protocol (status 101). Of a base that speaks HTTP/2 without
// TLS and is no *http.Transport, that is known only after its first response.
func NewTransport(base http.RoundTripper) http.RoundTripper {
	return newTransport(base, noteV1)
}

func newTransport(base http.RoundTripper, note noteFunc) http.RoundTripper {
	if base == nil {
		base = dialling(http.DefaultTransport, note)
	}
	if !supported {
		return base
	}
	return &transport{base: base, owners: newOwners(note)}
}

// dialling gives a clone of the default transport that dials with DialContext; what
// somebody has put in its place is taken as it is.
func dialling(base http.RoundTripper, note noteFunc) http.RoundTripper {
	standard, ok := base.(*http.Transport)
	if !ok {
		return base
	}
	clone := standard.Clone()
	// As http.DefaultTransport has it.
	clone.DialContext = dialContext(&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}, note)
	return clone
}

// transport is NewTransport's.
type transport struct {
	base   http.RoundTripper
	owners *owners
	// HTTP/2 came without TLS: what has no TLS may be shared.
	plainHTTP2 atomic.Bool
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper. A request without a span has a claim, too: a
// connection that it gets may be bound still.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c := &claim{owners: t.owners, span: trace.SpanContextFromContext(ctx)}
	traced := httptrace.WithClientTrace(context.WithValue(ctx, claimKey{}, c), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { c.got(info.Conn, t.shares(req, info.Conn)) },
		// The body has been read, even if the caller does not know yet. The next request
		// may have the connection already.
		PutIdleConn: func(error) { c.idle() },
	})
	resp, err := t.base.RoundTrip(req.WithContext(traced))
	if err != nil {
		c.release()
		return resp, err
	}
	resp.Request = req
	if resp.ProtoMajor >= 2 && req.URL.Scheme == "http" {
		t.plainHTTP2.Store(true)
	}
	switched := resp.StatusCode == http.StatusSwitchingProtocols
	if resp.Body == nil || resp.Body == http.NoBody || switched || resp.ProtoMajor >= 2 || !c.holds() {
		c.release()
		return resp, nil
	}
	b := &body{ReadCloser: resp.Body, claim: c}
	if ctx.Done() != nil {
		// net/http closes the connection then, whether or not somebody closes the body.
		b.stop = context.AfterFunc(ctx, c.release)
	}
	resp.Body = b
	return resp, nil
}

// shares says whether several requests use the connection at a time.
func (t *transport) shares(req *http.Request, conn net.Conn) bool {
	if req.URL.Scheme != "http" {
		return speaksHTTP2(conn)
	}
	standard, ok := t.base.(*http.Transport)
	if !ok {
		return t.plainHTTP2.Load()
	}
	// net/http prefers HTTP/1 where it may speak both.
	p := standard.Protocols
	return p != nil && p.UnencryptedHTTP2() && !p.HTTP1()
}

// claimKey is where the context of a request, and of a dial for it, has its *claim.
type claimKey struct{}

// body is a response's body, with whose end the connection is released.
type body struct {
	io.ReadCloser
	claim *claim
	stop  func() bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

// Close implements io.Closer. An end that was not read closes the connection, which may
// still have something to send: so it comes first.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

func (b *body) end() {
	if b.stop != nil {
		b.stop()
	}
	b.claim.release()
}
