package spanprocessor

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// said is what a processor states, by the names of the spans.
type said struct {
	names map[trace.SpanID]string
	all   []string
}

func (s *said) started(span trace.SpanContext) {
	s.all = append(s.all, fmt.Sprintf("starts, sampled %v", span.IsSampled()))
}

func (s *said) ended(span, parent trace.SpanContext) {
	s.all = append(s.all, fmt.Sprintf("%s ends in %q, remote %v", s.names[span.SpanID()], s.names[parent.SpanID()], parent.IsRemote()))
}

// recordOnly records spans that are not sampled.
type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}

func (recordOnly) Description() string { return "records only" }

// TestProcessor expects start and end of each span that the SDK records.
func TestProcessor(t *testing.T) {
	remote := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	for _, test := range []struct {
		name    string
		sampler sdktrace.Sampler
		parent  trace.SpanContext
		want    []string
	}{
		{"sampled", sdktrace.AlwaysSample(), trace.SpanContext{}, []string{
			"starts, sampled true", "starts, sampled true",
			`child ends in "root", remote false`, `root ends in "", remote false`,
		}},
		{"remote parent", sdktrace.AlwaysSample(), remote, []string{
			"starts, sampled true", "starts, sampled true",
			`child ends in "root", remote false`, `root ends in "remote", remote true`,
		}},
		{"recorded only", recordOnly{}, trace.SpanContext{}, []string{
			"starts, sampled false", "starts, sampled false",
			`child ends in "root", remote false`, `root ends in "", remote false`,
		}},
		{"dropped", sdktrace.NeverSample(), trace.SpanContext{}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &said{names: map[trace.SpanID]string{remote.SpanID(): "remote"}}
			p := &Processor{started: s.started, ended: s.ended}
			provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(test.sampler), sdktrace.WithSpanProcessor(p))
			tracer := provider.Tracer("")
			ctx, root := tracer.Start(trace.ContextWithSpanContext(t.Context(), test.parent), "root", trace.WithSpanKind(trace.SpanKindServer))
			s.names[root.SpanContext().SpanID()] = "root"
			_, child := tracer.Start(ctx, "child")
			s.names[child.SpanContext().SpanID()] = "child"
			child.End()
			root.End()
			if err := provider.Shutdown(t.Context()); err != nil {
				t.Errorf("shut down: %v", err)
			}
			if diff := cmp.Diff(test.want, s.all); diff != "" {
				t.Errorf("statements (-want +got):\n%s", diff)
			}
		})
	}
}

// BenchmarkSpan is what a span of the SDK costs, alone and with the processor.
func BenchmarkSpan(b *testing.B) {
	for _, bench := range []struct {
		name    string
		options []sdktrace.TracerProviderOption
	}{
		{"Without", nil},
		{"With", []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(New())}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			provider := sdktrace.NewTracerProvider(bench.options...)
			provider.RegisterSpanProcessor(sdktrace.NewSimpleSpanProcessor(tracetest.NewNoopExporter()))
			tracer := provider.Tracer("")
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				_, span := tracer.Start(ctx, "span")
				span.End()
			}
		})
	}
}
