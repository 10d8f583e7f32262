// Package spanprocessor tells otel-kprobe of the spans of the OpenTelemetry SDK. It is
// a package of its own because it needs the SDK, which package otelkprobe does without:
// libraries may import that one.
package spanprocessor

import (
	"context"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

// Processor states where spans start and end, and binds the connections of
// otelkprobe.Server to the server spans of their requests. The SDK tells it of spans
// that are recorded; what a sampler drops remains unknown.
type Processor struct {
	started func(span trace.SpanContext)
	ended   func(span, parent trace.SpanContext)
	servers otelkprobe.ServerSpans
}

var _ sdktrace.SpanProcessor = (*Processor)(nil)

// New makes a processor for sdktrace.WithSpanProcessor, beside the one that exports.
func New() *Processor {
	return &Processor{started: otelkprobe.SpanStarted, ended: otelkprobe.SpanEnded}
}

// OnStart implements sdktrace.SpanProcessor; the SDK calls it in the span's goroutine.
func (p *Processor) OnStart(parent context.Context, s sdktrace.ReadWriteSpan) {
	span := s.SpanContext()
	p.started(span)
	if s.SpanKind() == trace.SpanKindServer {
		p.servers.Started(parent, span)
	}
}

// OnEnd implements sdktrace.SpanProcessor.
func (p *Processor) OnEnd(s sdktrace.ReadOnlySpan) {
	span := s.SpanContext()
	if s.SpanKind() == trace.SpanKindServer {
		p.servers.Ended(span)
	}
	p.ended(span, s.Parent())
}

// Shutdown implements sdktrace.SpanProcessor. There is nothing to release.
func (p *Processor) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor. Statements do not wait anywhere.
func (p *Processor) ForceFlush(context.Context) error { return nil }
