package bench

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// decodingReceiver is a trace service with the usual codec.
type decodingReceiver struct {
	coltracepb.UnimplementedTraceServiceServer
	mu    sync.Mutex
	got   []*tracepb.ResourceSpans
	calls int
}

func (r *decodingReceiver) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.got = append(r.got, req.ResourceSpans...)
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// TestOfficialClientCarriesOurBytes holds what the program's speed rests on: the
// official client sends the unknown fields of a message, and a server with the
// usual codec and its usual limit of 4 MiB sees ordinary spans.
func TestOfficialClientCarriesOurBytes(t *testing.T) {
	for name, opts := range map[string][]otlptracegrpc.Option{
		"plain": nil,
		"gzip":  {otlptracegrpc.WithCompressor("gzip")},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r := &decodingReceiver{}
			srv := grpc.NewServer()
			coltracepb.RegisterTraceServiceServer(srv, r)
			served := make(chan error, 1)
			go func() { served <- srv.Serve(l) }()
			send(t, l.Addr().String(), opts)
			srv.GracefulStop()
			if err := <-served; err != nil {
				t.Error(err)
			}
			checkReceived(t, r)
		})
	}
}

const tracesSent = 500

// send exports journeys that need several messages.
func send(t *testing.T, addr string, opts []otlptracegrpc.Option) {
	t.Helper()
	opts = append(opts, otlptracegrpc.WithEndpoint(addr), otlptracegrpc.WithInsecure())
	client := otlptracegrpc.NewClient(opts...)
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	exp, err := export.NewOTLP(export.OTLPOptions{
		Envelope: spans.NewEnvelope(spans.Resource{
			Attrs: []spans.ResourceAttr{{Key: "service.name", Type: spans.TypeString, Str: "otel-kprobe"}},
		}, spans.Scope{Name: "scope"}),
		Log: slog.New(slog.DiscardHandler), Wait: true, MaxBatchSpans: 1 << 20, // the bytes decide
		Upload: func(ctx context.Context, body [][]byte, _ int) (int64, error) {
			rs := &tracepb.ResourceSpans{}
			rs.ProtoReflect().SetUnknown(body[0])
			return 0, client.UploadTraces(ctx, []*tracepb.ResourceSpans{rs})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	builder := spans.NewBuilder(spans.Options{Names: kernelNames{}, Clock: kernelNames{}})
	for id := range uint64(tracesSent) {
		exp.Export(builder.Build(deepJourney(id)))
	}
	if err := errors.Join(exp.Shutdown(ctx), client.Stop(ctx)); err != nil {
		t.Fatal(err)
	}
	if s := exp.Stats(); s.Lost() != 0 || s.Exported != s.Spans {
		t.Errorf("%+v", s)
	}
}

func checkReceived(t *testing.T, r *decodingReceiver) {
	t.Helper()
	n, roots := 0, map[string]int{}
	for _, rs := range r.got {
		if len(rs.ProtoReflect().GetUnknown()) > 0 || rs.Resource.Attributes[0].Value.GetStringValue() != "otel-kprobe" {
			t.Errorf("resource %v", rs.Resource)
		}
		for _, s := range rs.ScopeSpans[0].Spans {
			n++
			if len(s.ParentSpanId) == 0 {
				roots[string(s.TraceId)]++
			}
		}
	}
	if want := tracesSent * (framesPerJourney + 1); n != want || len(roots) != tracesSent {
		t.Errorf("%d spans and %d roots arrived, want %d and %d", n, len(roots), want, tracesSent)
	}
	if r.calls < 2 {
		t.Errorf("%d messages: too few to show that they keep below the limit", r.calls)
	}
}
