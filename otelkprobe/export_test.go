package otelkprobe

import (
	"context"
	"net"
	"net/http"

	"go.opentelemetry.io/otel/trace"
)

// What a statement says, for tests.
const (
	WhatStarts   = whatStarts
	WhatEnds     = whatEnds
	WhatBinds    = whatBinds
	WhatLingers  = whatLingers
	WhatReleases = whatReleases
	WhatAnswers  = whatAnswers
	Unsampled    = unsampled
)

// NewTransportTo is NewTransport whose statements go to note.
func NewTransportTo(note func(what, traceHigh, traceLow, span, parent, fd uint64), base http.RoundTripper) http.RoundTripper {
	return newTransport(base, note)
}

// DialContextTo is DialContext whose statements go to note.
func DialContextTo(note func(what, traceHigh, traceLow, span, parent, fd uint64), d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return dialContext(d, note)
}

// ServerTo is Server whose statements go to note.
func ServerTo(note func(what, traceHigh, traceLow, span, parent, fd uint64), s *http.Server) {
	server(s, note)
}

// Statement gives what noteV1 is told of a span and its parent, nil when it is not.
func Statement(what uint64, span, parent trace.SpanContext) []uint64 {
	s, ok := statementOf(what, &span)
	if !ok {
		return nil
	}
	return []uint64{s.what, s.traceHigh, s.traceLow, s.span, localID(&parent)}
}

// Held is how many connections a transport of NewTransportTo thinks bound.
func Held(rt http.RoundTripper) int {
	o := rt.(*transport).owners
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.bySocket)
}

// Served is how many connections are bound to spans that have not ended.
func (s *ServerSpans) Served() int {
	n := 0
	s.conns.Range(func(any, any) bool { n++; return true })
	return n
}

// Note is where otel-kprobe listens.
func Note(what, traceHigh, traceLow, span, parent, fd uint64) {
	noteV1(what, traceHigh, traceLow, span, parent, fd)
}
