package otelkprobe

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/trace"
)

// What a statement says: the low 8 bits of noteV1's first argument.
const (
	whatStarts   = 1 // the span starts in this goroutine
	whatEnds     = 2 // it ends; parent is its local parent, 0 for none
	whatBinds    = 3 // the socket belongs to the span, which asks something over it
	whatLingers  = 4 // its span has ended: only what is still written counts
	whatReleases = 5 // the socket no longer belongs to the span
	whatAnswers  = 6 // the socket belongs to the span, which answers over it
)

// unsampled, added to what a statement says: the service does not export the span.
const unsampled = 1 << 8

// noteFunc is noteV1, or what a test puts in its place.
type noteFunc func(what, traceHigh, traceLow, span, parent, fd uint64)

// SpanStarted states that a span starts in this goroutine. It is for SDKs that package
// spanprocessor does not fit. A span without an id is not stated.
func SpanStarted(span trace.SpanContext) {
	if s, ok := statementOf(whatStarts, &span); ok {
		noteV1(s.what, s.traceHigh, s.traceLow, s.span, 0, 0)
	}
}

// SpanEnded states that a span ends, in whatever goroutine. Parent is the span's own: if
// it is of this process, the goroutine in which the span started is in the parent again.
func SpanEnded(span, parent trace.SpanContext) {
	if s, ok := statementOf(whatEnds, &span); ok {
		noteV1(s.what, s.traceHigh, s.traceLow, s.span, localID(&parent), 0)
	}
}

// statement is what noteV1 is told of a span. The ids are as they stand in memory: what
// stores them on a little-endian machine has their bytes again.
type statement struct{ what, traceHigh, traceLow, span uint64 }

// statementOf says something of a span, unless it has no ids.
func statementOf(what uint64, span *trace.SpanContext) (statement, bool) {
	if !span.IsValid() {
		return statement{}, false
	}
	if !span.IsSampled() {
		what |= unsampled
	}
	traceID, spanID := span.TraceID(), span.SpanID()
	return statement{
		what:      what,
		traceHigh: binary.LittleEndian.Uint64(traceID[:8]),
		traceLow:  binary.LittleEndian.Uint64(traceID[8:]),
		span:      binary.LittleEndian.Uint64(spanID[:]),
	}, true
}

// localID is the id of a span of this process, 0 for another or none.
func localID(span *trace.SpanContext) uint64 {
	if !span.IsValid() || span.IsRemote() {
		return 0
	}
	id := span.SpanID()
	return binary.LittleEndian.Uint64(id[:])
}
