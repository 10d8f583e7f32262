package e2e

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	// buildTimeout leaves room for a cold cache: three minutes a back-end on two
	// idle cores, and these are rarely idle.
	buildTimeout = 20 * time.Minute
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
)

// stack is a Collector that forwards to a Jaeger.
type stack struct {
	collector *Collector
	jaeger    *Jaeger
	client    *JaegerClient
}

// startStack starts both back-ends; they end with the test.
func startStack(t *testing.T) *stack {
	t.Helper()
	build, cancelBuild := context.WithTimeout(t.Context(), buildTimeout)
	defer cancelBuild()
	for _, tool := range []string{ToolCollector, ToolJaeger} {
		if _, err := ToolPath(build, tool); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	dir := t.TempDir()
	jaeger, err := StartJaeger(ctx, dir, JaegerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := jaeger.Stop(); err != nil {
			t.Error(err)
		}
	})
	collector, err := StartCollector(ctx, dir, CollectorOptions{Jaeger: jaeger.OTLP})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopCollector(t, collector)
		if t.Failed() {
			t.Logf("Collector: %s\nJaeger: %s", collector.Log(), jaeger.Log())
		}
	})
	client := NewJaegerClient(jaeger.Query)
	t.Cleanup(client.Close)
	return &stack{collector: collector, jaeger: jaeger, client: client}
}

func stopCollector(t *testing.T, c *Collector) {
	t.Helper()
	// Not t.Context(): that one has ended when clean-up runs.
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// collected ends the Collector, which makes it deliver all it holds, and returns
// what it wrote.
func (s *stack) collected(t *testing.T) []Span {
	t.Helper()
	stopCollector(t, s.collector)
	traces, err := ReadTracesFile(s.collector.File)
	if err != nil {
		t.Fatal(err)
	}
	return Flatten(traces)
}

// inJaeger returns what Jaeger has of the traces that want holds, asked for one
// by one, and checks that a search finds the same.
func (s *stack) inJaeger(t *testing.T, service string, want []Span) []Span {
	t.Helper()
	got := s.byID(t, want)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, last := want[0].StartUnixNs, want[0].StartUnixNs
	for _, span := range want {
		first, last = min(first, span.StartUnixNs), max(last, span.StartUnixNs)
	}
	found, err := s.client.Find(ctx, Search{
		Service: service,
		From:    time.Unix(0, int64(first)).Add(-time.Second),
		To:      time.Unix(0, int64(last)).Add(time.Second),
		Limit:   len(TraceIDs(want)) + 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	report(t, "Jaeger's search beside its traces by id", Compare(got, Flatten(found)))
	return got
}

// byID returns what Jaeger has of the traces that want holds, asked for one by one.
func (s *stack) byID(t *testing.T, want []Span) (got []Span) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	perTrace := make(map[string]int)
	for _, span := range want {
		perTrace[span.TraceID]++
	}
	for _, id := range TraceIDs(want) {
		traces, err := s.client.AwaitTrace(ctx, id, perTrace[id])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, Flatten(traces)...)
	}
	return got
}

// report fails the test with the first few differences.
func report(t *testing.T, what string, differences []string) {
	t.Helper()
	const most = 5
	for i, difference := range differences {
		if i == most {
			t.Errorf("%s: and %d more differences", what, len(differences)-most)
			return
		}
		t.Errorf("%s: %s", what, difference)
	}
}

// TestBackendsKeepSpans proves the harness without otel-kprobe: the SDK's spans
// come back from the Collector's file and from Jaeger as they were sent.
func TestBackendsKeepSpans(t *testing.T) {
	s := startStack(t)
	const service = "otel-kprobe-e2e"
	sent := sendSDKSpans(t, s.collector.GRPC, service)
	if len(sent) != 1+3+1 {
		t.Fatalf("sent %d spans, want 5", len(sent))
	}
	report(t, "Collector", Compare(sent, s.collected(t)))
	kept, err := AsJaegerKeeps(sent)
	if err != nil {
		t.Fatal(err)
	}
	report(t, "Jaeger", Compare(kept, s.inJaeger(t, service, sent)))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client.Trace(ctx, "0123456789abcdef0123456789abcdef"); !errors.Is(err, ErrNoTrace) {
		t.Errorf("a trace that nobody sent: got error %v, want ErrNoTrace", err)
	}
	if _, err := s.client.get(ctx, "/not/an/api", nil); err == nil {
		t.Error("Jaeger's page for an unknown path passed for an answer")
	}
}

// sendSDKSpans sends two traces with the SDK and returns them as spans: a packet's
// tree as otel-kprobe makes it, with times that microseconds cannot hold, and a
// second trace that links to it.
func sendSDKSpans(t *testing.T, endpoint, service string) []Span {
	t.Helper()
	ctx := t.Context()
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	memory := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSyncer(exporter), sdktrace.WithSyncer(memory),
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service),
			attribute.String("host.name", "guest"))))
	tracer := provider.Tracer("github.com/otel-kprobe/otel-kprobe/test/e2e", trace.WithInstrumentationVersion("1.2.3"))

	start := time.Now().Truncate(time.Microsecond).Add(123 * time.Nanosecond)
	rootCtx, root := tracer.Start(ctx, "packet tx icmp", trace.WithTimestamp(start), trace.WithAttributes(
		attribute.String("source.address", "10.0.2.15"),
		attribute.Int64("otel_kprobe.skb.len", 1<<62+1),
		attribute.Float64("ratio", 0.1),
		attribute.Bool("otel_kprobe.incomplete", false),
		attribute.StringSlice("otel_kprobe.interfaces", []string{"lo", "<eth0>"})))
	parent := rootCtx
	for i, function := range []string{"ip_output", "__dev_queue_xmit", "dev_hard_start_xmit"} {
		var span trace.Span
		begin := start.Add(time.Duration(i+1) * 7 * time.Nanosecond)
		parent, span = tracer.Start(parent, function, trace.WithTimestamp(begin),
			trace.WithAttributes(attribute.String("code.function.name", function)))
		if i == 2 {
			span.SetStatus(codes.Error, "SKB_DROP_REASON_QDISC_DROP")
			span.AddEvent("drop", trace.WithTimestamp(begin.Add(time.Nanosecond)),
				trace.WithAttributes(attribute.String("otel_kprobe.drop.reason", "QDISC_DROP")))
			span.AddEvent("a later one", trace.WithTimestamp(begin.Add(2*time.Nanosecond)))
		}
		span.End(trace.WithTimestamp(begin.Add(time.Duration(100-i*20) * time.Nanosecond)))
	}
	root.End(trace.WithTimestamp(start.Add(1001 * time.Nanosecond)))
	_, linked := tracer.Start(ctx, "packet rx icmp", trace.WithTimestamp(start.Add(2001*time.Nanosecond)),
		trace.WithLinks(trace.Link{SpanContext: root.SpanContext()}))
	linked.End(trace.WithTimestamp(start.Add(3003 * time.Nanosecond)))

	// Shutdown empties the exporter in memory.
	sent := fromSDK(memory.GetSpans())
	if err := provider.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return sent
}

// fromSDK converts the SDK's spans without any code of OTLP, so that it is an
// independent witness.
func fromSDK(stubs tracetest.SpanStubs) []Span {
	var spans []Span
	for _, stub := range stubs {
		span := Span{
			TraceID: stub.SpanContext.TraceID().String(), SpanID: stub.SpanContext.SpanID().String(),
			Name: stub.Name, Kind: "Internal", Status: stub.Status.Code.String(), StatusMessage: stub.Status.Description,
			StartUnixNs: uint64(stub.StartTime.UnixNano()), EndUnixNs: uint64(stub.EndTime.UnixNano()),
			Attributes: plain(stub.Attributes), Resource: plain(stub.Resource.Attributes()),
			ScopeName: stub.InstrumentationScope.Name, ScopeVersion: stub.InstrumentationScope.Version,
		}
		if stub.Parent.IsValid() {
			span.ParentSpanID = stub.Parent.SpanID().String()
		}
		for _, link := range stub.Links {
			span.Links = append(span.Links, Link{
				TraceID: link.SpanContext.TraceID().String(), SpanID: link.SpanContext.SpanID().String(),
				Attributes: plain(link.Attributes),
			})
		}
		for _, event := range stub.Events {
			span.Events = append(span.Events, Event{
				Name: event.Name, TimeUnixNs: uint64(event.Time.UnixNano()), Attributes: plain(event.Attributes),
			})
		}
		spans = append(spans, span)
	}
	return spans
}

func plain(attributes []attribute.KeyValue) map[string]any {
	values := make(map[string]any, len(attributes))
	for _, a := range attributes {
		switch v := a.Value.AsInterface().(type) {
		case []string:
			list := make([]any, len(v))
			for i := range v {
				list[i] = v[i]
			}
			values[string(a.Key)] = list
		default:
			values[string(a.Key)] = v
		}
	}
	return values
}

// TestShippedConfigIsValid lets the Collector check collector-config.yaml as users
// get it, alone and with what profile tempo adds.
func TestShippedConfigIsValid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	bin, err := ToolPath(ctx, ToolCollector)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []CollectorOptions{{}, {Sampling: true}} {
		configs, err := shippedConfigs(o)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(ctx, bin, append([]string{"validate"}, configs...)...).CombinedOutput(); err != nil {
			t.Errorf("otelcol validate %v: %v\n%s", configs, err, out)
		}
	}
}

// TestProcessThatFailsSaysWhy checks what a developer sees when a back-end does
// not start.
func TestProcessThatFailsSaysWhy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	tries := 0
	_, err := startReady(ctx, func() (*process, string, error) {
		tries++
		p, err := startProcess("sh", t.TempDir()+"/log", "sh", "-c", "echo port is taken >&2; exit 7")
		return p, "http://" + loopback + ":1/", err
	})
	if tries != startAttempts {
		t.Errorf("started %d times, want %d", tries, startAttempts)
	}
	if !errors.Is(err, errExited) {
		t.Fatalf("got error %v, want one that wraps errExited", err)
	}
	for _, part := range []string{"sh", "exit status 7", "port is taken"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}
