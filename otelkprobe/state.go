package otelkprobe

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/trace"
)

// What a statement says: the low 8 bits of noteV1's first argument.
const (
	whatStarts   = 1 // the span starts in this goroutine
	whatEnds     = 2 // it ends; parent is its local parent, 0 for none
	whatBinds    = 3 // the socket belongs to the span
	whatLingers  = 4 // its span has ended: only what is still written counts
	whatReleases = 5 // the socket no longer belongs to the span
)

// unsampled, added to what a statement says: the service does not export the span.
const unsampled = 1 << 8

// noteFunc is noteV1, or what a test puts in its place.
type noteFunc func(what, traceHigh, traceLow, span, parent, fd uint64)

// SpanStarted states that a span starts in this goroutine. It is for SDKs that package
// spanprocessor does not fit. A span without an id is not stated.
func SpanStarted(span trace.SpanContext) {
	state(noteV1, whatStarts, span, trace.SpanContext{}, 0)
}

// SpanEnded states that a span ends, in whatever goroutine. Parent is the span's own: if
// it is of this process, the goroutine in which the span started is in the parent again.
func SpanEnded(span, parent trace.SpanContext) {
	state(noteV1, whatEnds, span, parent, 0)
}

// state calls note with the ids as they stand in memory: what stores traceHigh,
// traceLow and span on a little-endian machine has the bytes of the ids again.
func state(note noteFunc, what uint64, span, parent trace.SpanContext, fd uintptr) {
	if !span.IsValid() {
		return
	}
	if !span.IsSampled() {
		what |= unsampled
	}
	traceID, spanID := span.TraceID(), span.SpanID()
	var above uint64
	if parent.IsValid() && !parent.IsRemote() {
		id := parent.SpanID()
		above = binary.LittleEndian.Uint64(id[:])
	}
	note(what, binary.LittleEndian.Uint64(traceID[:8]), binary.LittleEndian.Uint64(traceID[8:]),
		binary.LittleEndian.Uint64(spanID[:]), above, uint64(fd))
}
