package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
)

// sendTimeout bounds one send of the histograms.
const sendTimeout = 5 * time.Second

// latencyPoint is one histogram with what it is of.
type latencyPoint struct {
	key        blockio.Key
	attributes []attribute.KeyValue
	histogram  *blockio.Histogram // all since the start of the run
	exemplar   *latencyExemplar   // the slowest request since the last send, nil without
}

// latencyExemplar is one request that was counted, and its span.
type latencyExemplar struct {
	ns      uint64 // its latency
	traceID [16]byte
	spanID  [8]byte
	unixNs  uint64 // CLOCK_REALTIME when it was complete
}

// latencyMetricsOptions say what latencyMetrics are made of.
type latencyMetricsOptions struct {
	shared   *metricsClient // is not closed; nil: one of their own is made
	endpoint string         // a URL, "" when the environment decides
	getenv   func(string) string
	dial     dialer             // nil: the usual one
	resource *resource.Resource // of sdkResource
	logger   *slog.Logger
	started  time.Time // when the histograms were empty
}

// latencyMetrics send latency histograms as OpenTelemetry metrics. Those that
// are nil send nothing. Methods may be called concurrently.
type latencyMetrics struct {
	*metricsClient
	own      bool // the client is closed with them
	resource *resource.Resource
	logger   *slog.Logger
	start    time.Time

	mu      sync.Mutex
	off     bool   // the receiver takes no metrics
	warning string // the last one
	failed  uint64
}

// newLatencyMetrics makes latencyMetrics for the endpoint of the spans, or for
// what the environment says; nil when it says that there are to be none. It
// connects at the first send. Errors are the user's to mend. newOTLPClient comes
// first: what the exporter says of variables goes the way that it has set.
func newLatencyMetrics(ctx context.Context, o latencyMetricsOptions) (*latencyMetrics, error) {
	client := o.shared
	if client == nil {
		var err error
		if client, err = newMetricsClient(ctx, o); err != nil || client == nil {
			return nil, err
		}
	}
	return &latencyMetrics{
		metricsClient: client, own: o.shared == nil,
		resource: o.resource, logger: o.logger.With("endpoint", client.target), start: o.started,
	}, nil
}

// metricsClient sends metrics. keepMetricsAnswer notes what the receiver says.
type metricsClient struct {
	exporter *otlpmetricgrpc.Exporter
	target   string // what messages call the endpoint
}

// newMetricsClient makes a metricsClient, nil when there are to be no metrics.
func newMetricsClient(ctx context.Context, o latencyMetricsOptions) (*metricsClient, error) {
	wanted, err := metricsWanted(o.endpoint, o.getenv, o.logger)
	if err != nil || !wanted {
		return nil, usageError(err)
	}
	options := []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithDialOption(dialOptions(keepMetricsAnswer, o.dial)...),
		// The next histograms have what these had, so a retry has no use.
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: false}),
	}
	options = append(options, clientOptions(metricsSignal, o.endpoint, o.getenv, otlpmetricgrpc.WithEndpointURL, otlpmetricgrpc.WithInsecure)...)
	target := metricsSignal.endpointName(o.endpoint, o.getenv)
	exporter, err := otlpmetricgrpc.New(ctx, options...)
	if err != nil {
		return nil, usageErrorf("connect to the OTLP endpoint %s: %w", target, err)
	}
	return &metricsClient{exporter, target}, nil
}

// metricsWanted decides whether metrics are sent where spans are.
func metricsWanted(endpoint string, getenv func(string) string, logger *slog.Logger) (bool, error) {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch name := strings.TrimSpace(getenv("OTEL_METRICS_EXPORTER")); name {
	case "none":
		return false, nil
	case exporterOTLP, "":
	default:
		return false, fmt.Errorf("read OTEL_METRICS_EXPORTER: %q is neither otlp nor none", name)
	}
	_, own := metricsSignal.endpoint(getenv)
	_, spans := tracesSignal.endpoint(getenv)
	if endpoint == "" && own == "" && spans != "" {
		logger.Info("no latency histograms are sent: " + spans + " is for spans alone; name an endpoint for them with OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
		return false, nil
	}
	if err := checkMetricsProtocol(getenv); err != nil || endpoint != "" {
		return err == nil, err
	}
	err := metricsSignal.checkEndpoint(getenv)
	return err == nil, err
}

// checkMetricsProtocol is checkProtocol for metrics.
func checkMetricsProtocol(getenv func(string) string) error {
	for _, name := range metricsSignal.variables("PROTOCOL") {
		switch protocol := getenv(name); protocol {
		case "":
			continue
		case "grpc":
			return nil
		default:
			return fmt.Errorf("read %s: %q is not supported, only grpc is; use the endpoint's gRPC port (4317), or set OTEL_METRICS_EXPORTER=none", name, protocol)
		}
	}
	return nil
}

// keepMetricsAnswer is keepAnswer for metrics.
func keepMetricsAnswer(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	kept, wanted := ctx.Value(answerKey{}).(*answer)
	response, ok := reply.(*colmetricspb.ExportMetricsServiceResponse)
	if err == nil && wanted && ok {
		partial := response.GetPartialSuccess()
		*kept = answer{taken: true, rejected: partial.GetRejectedDataPoints(), message: partial.GetErrorMessage()}
	}
	return err
}

// send sends the histograms that have counted something, as they were at now,
// and waits for the answer, sendTimeout at most. An error has been logged, and
// counted in failedSends. It is no error that a receiver takes no metrics at
// all: that is said once, and nothing is sent to it from then on.
func (m *latencyMetrics) send(ctx context.Context, now time.Time, points []latencyPoint) error {
	if m == nil || m.isOff() {
		return nil
	}
	data := m.dataPoints(now, points)
	if len(data) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	var got answer
	err := m.exporter.Export(context.WithValue(ctx, answerKey{}, &got), m.envelope(data))
	switch {
	case got.rejected > 0:
		return m.fail(fmt.Errorf("receiver rejects %d of %d histograms: %s", got.rejected, len(data), got.message))
	case got.taken:
		if got.message != "" {
			m.warn("the OTLP receiver warns", "message", got.message)
		}
		return nil
	case status.Code(err) == codes.Unimplemented:
		m.turnOff()
		return nil
	}
	return m.fail(plainError(err))
}

func (m *latencyMetrics) isOff() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.off
}

// turnOff says, the first time, that there will be no more sends.
func (m *latencyMetrics) turnOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.off {
		m.off = true
		m.logger.Warn("the OTLP receiver takes no metrics, so latency histograms are no longer sent: use a Collector, or set OTEL_METRICS_EXPORTER=none")
	}
}

// fail counts a send and gives its error back.
func (m *latencyMetrics) fail(err error) error {
	m.mu.Lock()
	m.failed++
	m.mu.Unlock()
	m.warn("cannot send the latency histograms: check the OTLP endpoint, or set OTEL_METRICS_EXPORTER=none", "error", err.Error())
	return fmt.Errorf("send the latency histograms: %w", err)
}

// warn shows a warning when its reason is another than the last one's.
func (m *latencyMetrics) warn(message, key, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if reason != m.warning {
		m.warning = reason
		m.logger.Warn(message, key, reason)
	}
}

// failedSends is how many sends did not arrive whole. What they had comes with a
// later send, if there is one.
func (m *latencyMetrics) failedSends() uint64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// close ends the connection.
func (m *latencyMetrics) close(ctx context.Context) error {
	if m == nil || !m.own {
		return nil
	}
	return m.metricsClient.close(ctx)
}

func (c *metricsClient) close(ctx context.Context) error {
	err := c.exporter.Shutdown(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to the OTLP endpoint: %w", err)
	}
	return nil // the connection is closed even when the time was over
}

// envelope puts the instrument, scope and resource around data points.
func (m *latencyMetrics) envelope(data []metricdata.ExponentialHistogramDataPoint[float64]) *metricdata.ResourceMetrics {
	s := scope()
	return &metricdata.ResourceMetrics{
		Resource: m.resource,
		ScopeMetrics: []metricdata.ScopeMetrics{{
			Scope: instrumentation.Scope{Name: s.Name, Version: s.Version, SchemaURL: s.SchemaURL},
			Metrics: []metricdata.Metrics{{
				Name:        "otel_kprobe.block.request.duration",
				Description: "Time from the issue of a block request to its completion",
				Unit:        "s",
				Data: metricdata.ExponentialHistogram[float64]{
					DataPoints:  data,
					Temporality: metricdata.CumulativeTemporality,
				},
			}},
		}},
	}
}

// dataPoints leaves out the histograms that are empty.
func (m *latencyMetrics) dataPoints(now time.Time, points []latencyPoint) []metricdata.ExponentialHistogramDataPoint[float64] {
	data := make([]metricdata.ExponentialHistogramDataPoint[float64], 0, len(points))
	for _, p := range points {
		buckets, count := exponentialBuckets(p.histogram)
		if count == 0 {
			continue
		}
		d := metricdata.ExponentialHistogramDataPoint[float64]{
			Attributes:     attribute.NewSet(slices.Clone(p.attributes)...), // it sorts them in place
			StartTime:      m.start,
			Time:           now,
			Count:          count,
			Sum:            seconds(p.histogram.SumNs),
			Scale:          latencyScale,
			PositiveBucket: buckets,
		}
		if p.histogram.MaxNs != 0 {
			d.Min = metricdata.NewExtrema(seconds(p.histogram.MinNs))
			d.Max = metricdata.NewExtrema(seconds(p.histogram.MaxNs))
		}
		if e := p.exemplar; e != nil {
			d.Exemplars = []metricdata.Exemplar[float64]{{
				Time: time.Unix(0, int64(e.unixNs)), Value: seconds(e.ns), TraceID: e.traceID[:], SpanID: e.spanID[:],
			}}
		}
		data = append(data, d)
	}
	return data
}
