package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
)

// metricsCollector is a receiver of metrics within the test.
type metricsCollector struct {
	colmetricspb.UnimplementedMetricsServiceServer
	address string
	// answer gives the answer to the n-th message, from 1; nil takes all.
	answer func(n int) (*colmetricspb.ExportMetricsServiceResponse, error)

	mu       sync.Mutex
	messages int
	taken    []*metricspb.ResourceMetrics
	headers  metadata.MD   // of the last message
	patience time.Duration // that the sender of the last message has
}

// startMetricsCollector listens on a free port of the loopback interface. With
// serves false it knows no metrics, as Jaeger does not.
func startMetricsCollector(t *testing.T, serves bool, answer func(n int) (*colmetricspb.ExportMetricsServiceResponse, error)) *metricsCollector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &metricsCollector{address: listener.Addr().String(), answer: answer}
	server := grpc.NewServer()
	if serves {
		colmetricspb.RegisterMetricsServiceServer(server, c)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements the metrics service.
func (c *metricsCollector) Export(ctx context.Context, request *colmetricspb.ExportMetricsServiceRequest) (*colmetricspb.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages++
	c.headers, _ = metadata.FromIncomingContext(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		c.patience = time.Until(deadline)
	}
	if c.answer != nil {
		response, err := c.answer(c.messages)
		if err != nil || response != nil {
			return response, err
		}
	}
	c.taken = append(c.taken, request.GetResourceMetrics()...)
	return &colmetricspb.ExportMetricsServiceResponse{}, nil
}

// metricsStart is the start of the runs here.
func metricsStart() time.Time { return time.Unix(1_700_000_000, 5) }

// openMetrics makes metrics of this process' environment that end with the test.
func openMetrics(t *testing.T, endpoint string, log *bytes.Buffer) *latencyMetrics {
	t.Helper()
	h := host{name: "h", id: "0af7", arch: "amd64", release: "6.12"}
	logger := newLogger(log)
	m, err := newLatencyMetrics(t.Context(), latencyMetricsOptions{
		endpoint: endpoint, getenv: os.Getenv, logger: logger, started: metricsStart(),
		resource: sdkResource(t.Context(), h, "instance", logger),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// latenciesOf counts latencies in nanoseconds.
func latenciesOf(ns ...uint64) *blockio.Histogram {
	h := &blockio.Histogram{}
	for _, n := range ns {
		h.Add(n)
	}
	return h
}

// onePoint is a histogram to send where it does not matter which.
func onePoint() []latencyPoint { return []latencyPoint{{histogram: latenciesOf(50_000)}} }

// attributesOf gives attributes of strings as a map.
func attributesOf(attributes []*commonpb.KeyValue) map[string]string {
	got := map[string]string{}
	for _, a := range attributes {
		got[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return got
}

// What arrives says of each histogram what it is, since when, and which request
// was the slowest.
func TestMetricsArrive(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
	fake := startMetricsCollector(t, true, nil)
	var log bytes.Buffer
	m := openMetrics(t, "http://"+fake.address, &log)
	read := []attribute.KeyValue{attribute.String("otel_kprobe.block.operation", "read"), attribute.String("disk.io.direction", "read")}
	points := []latencyPoint{
		{
			attributes: read, histogram: latenciesOf(1_000_000, 3_000_000, 2_000_000),
			exemplar: &latencyExemplar{ns: 3_000_000, traceID: [16]byte{1, 15: 2}, spanID: [8]byte{3, 7: 4}, unixNs: 1_700_000_001_000_000_007},
		},
		{attributes: []attribute.KeyValue{attribute.String("otel_kprobe.block.operation", "flush")}, histogram: &blockio.Histogram{}},
		{attributes: []attribute.KeyValue{attribute.String("otel_kprobe.block.operation", "write")}, histogram: &blockio.Histogram{
			Counts: [blockio.Buckets]uint64{100: 2, blockio.Buckets - 1: 1}, Count: 3, SumNs: 9e12, // the kernel's, who does not say more
		}},
	}
	now := metricsStart().Add(time.Minute)
	if err := m.send(t.Context(), now, points); err != nil || log.Len() > 0 {
		t.Fatal(err, log.String())
	}
	if got := read[0].Key; got != "otel_kprobe.block.operation" {
		t.Errorf("the caller's attributes begin with %s", got)
	}
	if fake.patience <= 0 || fake.patience > sendTimeout {
		t.Errorf("the sender waits %v", fake.patience)
	}
	got := fake.taken[0]
	wantResource := map[string]string{
		"deployment.environment.name": "lab", "host.arch": "amd64", "host.id": "0af7", "host.name": "h", "os.description": "Linux 6.12",
		"os.type": "linux", "service.instance.id": "instance", "service.name": "otel-kprobe", "service.version": version(),
	}
	if diff := cmp.Diff(wantResource, attributesOf(got.GetResource().GetAttributes())); diff != "" {
		t.Errorf("resource:\n%s", diff)
	}
	scopes := got.GetScopeMetrics()
	if len(scopes) != 1 || scopes[0].GetScope().GetName() != modulePath || scopes[0].GetScope().GetVersion() != version() ||
		scopes[0].GetSchemaUrl() != semconv.SchemaURL || got.GetSchemaUrl() != semconv.SchemaURL {
		t.Errorf("scopes %v, schema %q", scopes, got.GetSchemaUrl())
	}
	metric := scopes[0].GetMetrics()[0]
	histogram := metric.GetExponentialHistogram()
	if metric.GetName() != "otel_kprobe.block.request.duration" || metric.GetUnit() != "s" || metric.GetDescription() != "Time from the issue of a block request to its completion" ||
		histogram.GetAggregationTemporality() != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
		t.Errorf("metric %v", metric)
	}
	if len(histogram.GetDataPoints()) != 2 {
		t.Fatalf("%d data points, want those of read and write", len(histogram.GetDataPoints()))
	}
	checkReadPoint(t, histogram.GetDataPoints()[0], now)
	write := histogram.GetDataPoints()[1]
	if write.GetCount() != 3 || write.GetSum() != 9000 || write.Min != nil || write.Max != nil || len(write.GetExemplars()) > 0 {
		t.Errorf("data point without the extremes: %v", write)
	}
}

// checkReadPoint checks the data point of 1, 2 and 3 ms.
func checkReadPoint(t *testing.T, p *metricspb.ExponentialHistogramDataPoint, now time.Time) {
	t.Helper()
	want := map[string]string{"otel_kprobe.block.operation": "read", "disk.io.direction": "read"}
	if diff := cmp.Diff(want, attributesOf(p.GetAttributes())); diff != "" {
		t.Error(diff)
	}
	if p.GetStartTimeUnixNano() != uint64(metricsStart().UnixNano()) || p.GetTimeUnixNano() != uint64(now.UnixNano()) {
		t.Errorf("from %d to %d", p.GetStartTimeUnixNano(), p.GetTimeUnixNano())
	}
	if p.GetCount() != 3 || p.GetSum() != 0.006 || p.GetMin() != 0.001 || p.GetMax() != 0.003 || p.GetScale() != 3 || p.GetZeroCount() != 0 || len(p.GetNegative().GetBucketCounts()) > 0 {
		t.Errorf("data point %v", p)
	}
	if len(p.GetExemplars()) != 1 {
		t.Fatalf("exemplars %v", p.GetExemplars())
	}
	e := p.GetExemplars()[0]
	if !bytes.Equal(e.GetTraceId(), []byte{1, 15: 2}) || !bytes.Equal(e.GetSpanId(), []byte{3, 7: 4}) || e.GetAsDouble() != 0.003 || e.GetTimeUnixNano() != 1_700_000_001_000_000_007 {
		t.Errorf("exemplar %v", e)
	}
}

// The metrics go where the spans do, or where a variable of their own says.
func TestMetricsHonourEnvironment(t *testing.T) {
	type env = map[string]string
	for _, c := range []struct {
		name     string
		endpoint string // @ is the collector's address
		env      env
		header   string // that arrives as tenant
	}{
		{name: "flag", endpoint: "http://@"},
		{name: "endpoint", env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://@"}},
		{name: "flag before endpoint", endpoint: "http://@", env: env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://127.0.0.1:1"}},
		{name: "flag, endpoint of traces", endpoint: "http://@", env: env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://127.0.0.1:1"}},
		{name: "endpoint of metrics", env: env{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://@",
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1",
		}},
		{name: "exporter", endpoint: "http://@", env: env{"OTEL_METRICS_EXPORTER": " otlp", "OTEL_SDK_DISABLED": "false"}},
		{name: "protocol", endpoint: "http://@", env: env{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}},
		{
			name: "headers", endpoint: "http://@", header: "red",
			env: env{"OTEL_EXPORTER_OTLP_HEADERS": "tenant=blue", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "tenant=red"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := startMetricsCollector(t, true, nil)
			for name, value := range c.env {
				t.Setenv(name, strings.ReplaceAll(value, "@", fake.address))
			}
			var log bytes.Buffer
			m := openMetrics(t, strings.ReplaceAll(c.endpoint, "@", fake.address), &log)
			if err := m.send(t.Context(), time.Now(), onePoint()); err != nil || len(fake.taken) != 1 || log.Len() > 0 {
				t.Errorf("%d taken, error %v, log %q", len(fake.taken), err, log.String())
			}
			if got := strings.Join(fake.headers.Get("tenant"), ","); got != c.header {
				t.Errorf("header %q", got)
			}
		})
	}
}

// The environment can turn metrics off; what it says wrongly is refused.
func TestMetricsWanted(t *testing.T) {
	type env = map[string]string
	for _, c := range []struct {
		name     string
		endpoint string
		env      env
		wanted   bool
		log, err string // how they begin
	}{
		{name: "nothing said", wanted: true},
		{name: "none", endpoint: "http://c:1", env: env{"OTEL_METRICS_EXPORTER": "none"}},
		{name: "disabled", endpoint: "http://c:1", env: env{"OTEL_SDK_DISABLED": "True", "OTEL_METRICS_EXPORTER": "otlp"}},
		{
			name: "endpoint of traces alone", env: env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1"},
			log: `level=INFO msg="no latency histograms are sent: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is for spans alone; `,
		},
		{name: "endpoint of both", env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, wanted: true},
		{
			name: "other exporter", env: env{"OTEL_METRICS_EXPORTER": "prometheus"},
			err: `read OTEL_METRICS_EXPORTER: "prometheus" is neither otlp nor none`,
		},
		{
			name: "other protocol", endpoint: "http://c:1", env: env{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"},
			err: `read OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/protobuf" is not supported, only grpc is; `,
		},
		{
			name: "no URL", env: env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "127.0.0.1:4317"},
			err: `read OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "127.0.0.1:4317" is no URL: `,
		},
		{name: "no URL, flag", endpoint: "http://c:1", env: env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "127.0.0.1:4317"}, wanted: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			got, err := metricsWanted(c.endpoint, lookup(c.env), newLogger(&log))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != c.wanted || !strings.HasPrefix(text, c.err) || (c.err == "") != (text == "") {
				t.Errorf("wanted %v, error %q", got, text)
			}
			if !strings.HasPrefix(log.String(), c.log) || (c.log == "") != (log.Len() == 0) {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

// Metrics that are turned off take everything and do nothing; a mistake in the
// environment is one of usage.
func TestMetricsTurnedOff(t *testing.T) {
	options := latencyMetricsOptions{logger: slog.New(slog.DiscardHandler), getenv: lookup(map[string]string{"OTEL_METRICS_EXPORTER": "none"})}
	m, err := newLatencyMetrics(t.Context(), options)
	if m != nil || err != nil {
		t.Fatal(m, err)
	}
	if err := m.send(t.Context(), time.Now(), onePoint()); err != nil || m.failedSends() != 0 {
		t.Error(err, m.failedSends())
	}
	if err := m.close(t.Context()); err != nil {
		t.Error(err)
	}
	options.getenv = lookup(map[string]string{"OTEL_METRICS_EXPORTER": "console"})
	var log bytes.Buffer
	if _, err := newLatencyMetrics(t.Context(), options); report(&log, err) != exitUsage {
		t.Errorf("error %v", err)
	}
}

// A receiver without metrics is told of once, and is left alone from then on.
func TestMetricsUnimplemented(t *testing.T) {
	fake := startMetricsCollector(t, false, nil)
	var log bytes.Buffer
	m := openMetrics(t, "http://"+fake.address, &log)
	for range 3 {
		if err := m.send(t.Context(), time.Now(), onePoint()); err != nil {
			t.Error(err)
		}
	}
	want := `level=WARN msg="the OTLP receiver takes no metrics, so latency histograms are no longer sent: use a Collector, or set OTEL_METRICS_EXPORTER=none" endpoint=` + fake.address + "\n"
	if diff := cmp.Diff(want, log.String()); diff != "" || m.failedSends() != 0 {
		t.Errorf("%d failed, log:\n%s", m.failedSends(), diff)
	}
}

// Sends that fail are counted, and told of when the reason is a new one.
func TestMetricsFail(t *testing.T) {
	partial := func(rejected int64, message string) *colmetricspb.ExportMetricsServiceResponse {
		return &colmetricspb.ExportMetricsServiceResponse{PartialSuccess: &colmetricspb.ExportMetricsPartialSuccess{
			RejectedDataPoints: rejected, ErrorMessage: message,
		}}
	}
	fake := startMetricsCollector(t, true, func(n int) (*colmetricspb.ExportMetricsServiceResponse, error) {
		switch n {
		case 1, 2:
			return nil, status.Error(codes.Unavailable, "busy")
		case 3:
			return nil, status.Error(codes.PermissionDenied, "no such tenant")
		case 4:
			return partial(1, "quota"), nil
		case 5, 6:
			return partial(0, "old schema"), nil
		}
		return nil, nil
	})
	var log bytes.Buffer
	m := openMetrics(t, "http://"+fake.address, &log)
	var got []string
	for range 7 {
		text := ""
		if err := m.send(t.Context(), time.Now(), onePoint()); err != nil {
			text = err.Error()
		}
		got = append(got, text)
	}
	want := []string{
		"send the latency histograms: Unavailable: busy",
		"send the latency histograms: Unavailable: busy",
		"send the latency histograms: PermissionDenied: no such tenant",
		"send the latency histograms: receiver rejects 1 of 1 histograms: quota",
		"", "", "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if m.failedSends() != 4 || fake.messages != 7 || strings.Count(log.String(), "\n") != 4 || !strings.Contains(log.String(), `message="old schema"`) {
		t.Errorf("%d failed, %d messages, log %q", m.failedSends(), fake.messages, log.String())
	}
}

// Nothing listens, or does not answer: a send ends with an error, soon.
func TestMetricsNoReceiver(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "300")
	for _, c := range []struct{ name, address, want string }{
		{"nothing listens", freePort(t), "send the latency histograms: Unavailable: "},
		{"no answer", silent.Addr().String(), "send the latency histograms: DeadlineExceeded: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			m := openMetrics(t, "http://"+c.address, &log)
			start := time.Now()
			err := m.send(t.Context(), start, onePoint())
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || time.Since(start) > sendTimeout {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			if m.failedSends() != 1 || !strings.HasPrefix(log.String(), `level=WARN msg="cannot send the latency histograms: `) {
				t.Errorf("%d failed, log %q", m.failedSends(), log.String())
			}
		})
	}
}

// Nothing counted is nothing to send.
func TestMetricsNothingToSend(t *testing.T) {
	fake := startMetricsCollector(t, true, nil)
	var log bytes.Buffer
	m := openMetrics(t, "http://"+fake.address, &log)
	if err := m.send(t.Context(), time.Now(), []latencyPoint{{histogram: &blockio.Histogram{}}}); err != nil || fake.messages > 0 {
		t.Errorf("%d messages, error %v", fake.messages, err)
	}
}
