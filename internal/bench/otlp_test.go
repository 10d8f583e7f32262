package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// framesPerJourney is what a ping over veth shows with all functions probed.
const framesPerJourney = 40

// attributesPerSpan is the number of attributes that the SDK's spans get: the
// built journeys' spans have as many, which the benchmark checks.
const attributesPerSpan = 12

// receiver is a trace service on the loopback. It counts spans without
// decoding them, so that the benchmarks measure the sender.
type receiver struct {
	coltracepb.UnimplementedTraceServiceServer
	spans atomic.Int64
}

// countedRequest is an export request as bytes.
type countedRequest struct{ spans int64 }

// countingCodec decodes an export request to the number of its spans.
type countingCodec struct{ encoding.CodecV2 }

func (countingCodec) Name() string { return "proto" }

func (c countingCodec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*countedRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return eachField(buf.ReadOnlyData(), 1, func(resourceSpans []byte) error {
		return eachField(resourceSpans, 2, func(scopeSpans []byte) error {
			return eachField(scopeSpans, 2, func([]byte) error { r.spans++; return nil })
		})
	})
}

// eachField calls f with each length-delimited field of a number.
func eachField(b []byte, number protowire.Number, f func([]byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if num == number && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			if err := f(v); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// startReceiver serves on the loopback and returns its address.
func startReceiver(b *testing.B) (*receiver, string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	r := &receiver{}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(countingCodec{encoding.GetCodecV2("proto")}), grpc.MaxRecvMsgSize(4<<20))
	desc := coltracepb.TraceService_ServiceDesc
	desc.HandlerType = nil
	desc.Methods = []grpc.MethodDesc{{MethodName: "Export", Handler: r.handle}}
	srv.RegisterService(&desc, nil)
	go func() {
		if err := srv.Serve(l); err != nil {
			b.Errorf("serve: %v", err)
		}
	}()
	b.Cleanup(srv.Stop)
	return r, l.Addr().String()
}

//nolint:revive // grpc.MethodHandler has its context second.
func (r *receiver) handle(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	req := &countedRequest{}
	if err := dec(req); err != nil {
		return nil, err
	}
	r.spans.Add(req.spans)
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// kernelNames names every function, all of one module, and nothing else.
type kernelNames struct{}

func (kernelNames) Function(addr uint64) spans.Function {
	return spans.Function{Name: fmt.Sprintf("__netif_receive_skb_%d", addr), Module: "virtio_net"}
}
func (kernelNames) Location(uint64) string      { return "" }
func (kernelNames) DropReason(uint32) string    { return "" }
func (kernelNames) NetNS(uint32, uint64) string { return "init" }
func (kernelNames) OffsetNs(uint64) int64       { return 1_767_323_045_000_000_000 }

// deepJourney nests frames five deep; each span gets 12 attributes.
func deepJourney(id uint64) *journey.Journey {
	const skb, stack, at = 0xffff888004a1b200, 0xffffc90000103f00, uint64(5_000_000_000)
	j := &journey.Journey{ID: id, Facts: []event.Facts{{
		Journey: id, Skb: skb, AtMonoNs: at, Number: 1, TGID: 4711, TID: 4711, NetNS: 4026531840, Ifindex: 2,
		EtherType: 0x0800, Flags: event.FactsStart | event.FactsTuple | event.FactsICMP, Family: 4, Protocol: 1, ICMPType: 8,
		Source: [16]byte{10, 9, 0, 1}, Destination: [16]byte{10, 9, 0, 2}, Interface: [16]byte{'e', 't', 'h', '0'},
	}}}
	for i := range uint64(framesPerJourney) {
		depth := i % 5
		group := at + i/5*10_000
		j.Frames = append(j.Frames, event.Frame{
			Journey: id, Skb: skb, Func: i + 1, Stack: stack - depth*0x80, EnterMonoNs: group + depth*100,
			ExitMonoNs: group + 9_000 - depth*100, Return: 0, Len: 84 + uint32(i), Mark: uint32(i + 1),
			Facts: 1, Ordinal: uint32(i + 1), TID: 4711, CPU: 1,
		})
	}
	j.Ends = []event.End{{Journey: id, Skb: skb, AtMonoNs: at + 90_000, How: event.EndConsumed}}
	return j
}

// BenchmarkFrameToOTLP is the program's way: decoded frames, through Build, the
// exporter and the official client, to a receiver.
func BenchmarkFrameToOTLP(b *testing.B) {
	r, addr := startReceiver(b)
	client := otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(addr), otlptracegrpc.WithInsecure())
	if err := client.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := client.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	exp, err := export.NewOTLP(export.OTLPOptions{
		Envelope: spans.NewEnvelope(spans.Resource{}, spans.Scope{Name: "bench"}), Log: slog.New(slog.DiscardHandler), Wait: true,
		Upload: func(ctx context.Context, body [][]byte, _ int) (int64, error) {
			rs := &tracepb.ResourceSpans{}
			rs.ProtoReflect().SetUnknown(body[0])
			return 0, client.UploadTraces(ctx, []*tracepb.ResourceSpans{rs})
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	builder := spans.NewBuilder(spans.Options{
		Names: kernelNames{}, Clock: kernelNames{}, Seed: [16]byte{1},
		ReturnMeaning: func(spans.Function) spans.Return { return spans.ReturnInt32 },
	})
	j := deepJourney(1)
	checkAttributes(b, builder.Build(j))

	sent := 0
	b.ReportAllocs()
	cpu := cpuNs(b)
	b.ResetTimer()
	for sent < b.N { // b.N spans, not traces, to compare with the SDK
		t := builder.Build(j)
		exp.Export(t)
		sent += len(t.Spans)
		j.ID++
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := exp.Shutdown(ctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuNs(b)-cpu)/float64(sent), "cpu-ns/span")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/span")
	check(b, r, sent)
	if s := exp.Stats(); s.Exported != uint64(sent) {
		b.Fatalf("%+v", s)
	}
}

func checkAttributes(b *testing.B, t *spans.Trace) {
	b.Helper()
	n := 0
	for i := range t.Spans {
		n += len(t.Spans[i].Attrs)
	}
	if got := n / len(t.Spans); got != attributesPerSpan {
		b.Fatalf("%d attributes a span, the SDK gets %d", got, attributesPerSpan)
	}
}

// cpuNs is the processor time of this process, both sides of the connection
// included. On a machine with other work it says more than the clock.
func cpuNs(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// check fails the benchmark when a span did not arrive: a sender that drops
// would look fast.
func check(b *testing.B, r *receiver, sent int) {
	b.Helper()
	if got := r.spans.Load(); got != int64(sent) {
		b.Fatalf("%d spans arrived of %d", got, sent)
	}
}

// BenchmarkSDKToOTLP is the usual way with the same number of spans and
// attributes: Start, End, BatchSpanProcessor, otlptracegrpc.
func BenchmarkSDKToOTLP(b *testing.B) {
	r, addr := startReceiver(b)
	exp, err := otlptracegrpc.New(b.Context(), otlptracegrpc.WithEndpoint(addr), otlptracegrpc.WithInsecure())
	if err != nil {
		b.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(resource.Empty()), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithBatcher(exp, sdktrace.WithBlocking(), sdktrace.WithMaxQueueSize(8192), sdktrace.WithMaxExportBatchSize(4096)),
	)
	tracer := provider.Tracer("bench")
	start := time.Unix(0, 1_767_323_050_000_000_000)

	sent := 0
	b.ReportAllocs()
	cpu := cpuNs(b)
	b.ResetTimer()
	for sent < b.N {
		ctx, root := tracer.Start(b.Context(), "packet tx icmp", trace.WithTimestamp(start), trace.WithAttributes(twelve(0)...))
		for i := range framesPerJourney {
			at := start.Add(time.Duration(i) * time.Microsecond)
			_, s := tracer.Start(ctx, "__netif_receive_skb_core", trace.WithTimestamp(at), trace.WithAttributes(twelve(i)...))
			s.End(trace.WithTimestamp(at.Add(500)))
		}
		root.End(trace.WithTimestamp(start.Add(time.Millisecond)))
		sent += framesPerJourney + 1
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := provider.Shutdown(ctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuNs(b)-cpu)/float64(sent), "cpu-ns/span")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sent), "ns/span")
	check(b, r, sent)
}

// twelve are the attributes that a child span gets from spans.Builder.
func twelve(i int) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("code.function.name", "__netif_receive_skb_core"),
		attribute.String("otel_kprobe.stage", "receive"),
		attribute.Int("cpu.logical_number", 1),
		attribute.Int("thread.id", 4711),
		attribute.String("network.interface.name", "eth0"),
		attribute.Int64("otel_kprobe.netns.inum", 4026531840),
		attribute.String("otel_kprobe.module", "virtio_net"),
		attribute.Int("otel_kprobe.skb.len", 84+i),
		attribute.Int("otel_kprobe.skb.mark", i),
		attribute.Int("otel_kprobe.return", 0),
		attribute.Int("otel_kprobe.offset_ns", i*1000),
		attribute.Int("otel_kprobe.duration_ns", 500),
	}
}
