package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prometheusexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// ownMetrics are a service's metrics about itself. Both ways out read the same
// instruments: by OTLP each interval, and for Prometheus when it asks.
type ownMetrics struct {
	provider *sdkmetric.MeterProvider
	client   *metricsClient       // nil: nothing is sent by OTLP
	sender   *metricsSender       // nil: nothing is sent by OTLP
	registry *prometheus.Registry // nil: nobody can ask
}

// openMetrics makes the metrics that the configuration asks for. The connection is
// made when there is an OTLP endpoint: latency histograms go the same way.
func (s *service) openMetrics(ctx context.Context) (err error) {
	described := sdkResource(ctx, s.shared.host, s.shared.instance, slog.New(slog.DiscardHandler))
	options := []sdkmetric.Option{sdkmetric.WithResource(described)}
	m := &ownMetrics{}
	if s.shared.out.client != nil {
		s.shared.metrics, err = newMetricsClient(ctx, latencyMetricsOptions{
			endpoint: s.config.output.endpoint, getenv: s.sys.getenv, dial: s.own.dial, logger: s.logger,
		})
		if err != nil {
			return err
		}
	}
	s.metrics = m
	if m.client = s.shared.metrics; m.client != nil && s.config.metricsEvery > 0 {
		m.sender = &metricsSender{Exporter: m.client.exporter, logger: s.logger.With("endpoint", m.client.target)}
		options = append(options, sdkmetric.WithReader(
			sdkmetric.NewPeriodicReader(m.sender, sdkmetric.WithInterval(s.config.metricsEvery), sdkmetric.WithTimeout(sendTimeout)),
		))
	}
	if s.config.listen != "" {
		m.registry = prometheus.NewRegistry()
		reader, err := prometheusexporter.New(prometheusexporter.WithRegisterer(m.registry))
		if err != nil {
			return fmt.Errorf("prepare metrics for Prometheus: %w", err)
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	m.provider = sdkmetric.NewMeterProvider(options...)
	return registerMetrics(m.provider.Meter(scope().Name, metric.WithInstrumentationVersion(scope().Version)), s.measured)
}

// failedSends is how many sends did not arrive.
func (m *ownMetrics) failedSends() uint64 {
	if m == nil || m.sender == nil {
		return 0
	}
	return m.sender.failures()
}

// close sends the last values and ends the connection.
func (m *ownMetrics) close(ctx context.Context) error {
	if m == nil {
		return nil
	}
	var errs []error
	if m.provider != nil {
		errs = append(errs, m.provider.Shutdown(ctx)) // it closes the sender, which keeps the client
	}
	if m.client != nil {
		errs = append(errs, m.client.close(ctx))
	}
	return errors.Join(errs...)
}

// metricsSender is the exporter of ownMetrics. A send that fails is counted, and
// logged once for each reason; what it had comes with the next. The connection
// outlives it.
type metricsSender struct {
	sdkmetric.Exporter
	logger *slog.Logger

	mu      sync.Mutex
	off     bool // the receiver takes no metrics
	warning string
	failed  uint64
}

// Export implements sdkmetric.Exporter.
func (s *metricsSender) Export(ctx context.Context, data *metricdata.ResourceMetrics) error {
	s.mu.Lock()
	off := s.off
	s.mu.Unlock()
	if off {
		return nil
	}
	err := s.Exporter.Export(ctx, data)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if status.Code(err) == codes.Unimplemented {
		s.off = true
		s.logger.Warn("the OTLP receiver takes no metrics, so those about otel-kprobe are no longer sent: use a Collector, or set metrics.enabled to false")
		return nil
	}
	s.failed++
	if reason := plainError(err).Error(); reason != s.warning {
		s.warning = reason
		s.logger.Warn("cannot send metrics about otel-kprobe: check the OTLP endpoint, or set metrics.enabled to false", "error", reason)
	}
	return nil // it has been said
}

// Shutdown implements sdkmetric.Exporter: histograms may still go the same way.
func (s *metricsSender) Shutdown(context.Context) error { return nil }

func (s *metricsSender) failures() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// measured is what the metrics are made of: the counters of ended parts and, as
// they were lately, of those at work.
func (s *service) measured() measurements {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := measurements{
		sections: map[string]export.Summary{},
		reloads:  s.reloads, reloadsFailed: s.reloadsFailed,
	}
	add := func(section string, summary *export.Summary) {
		sum, known := m.sections[section]
		if known {
			sum.Add(summary)
		} else {
			sum = *summary
		}
		m.sections[section] = sum
	}
	for section, summary := range s.past {
		add(section, summary)
	}
	for _, p := range s.retiring {
		if summary := p.live.Load(); summary != nil {
			add(p.section, summary)
		}
	}
	for _, p := range s.active {
		if summary := p.live.Load(); summary != nil {
			add(p.section, summary)
		}
	}
	for _, e := range s.shared.out.exporters {
		m.exporters = append(m.exporters, measuredExporter(e))
	}
	return m
}

func measuredExporter(e namedExporter) exporterMeasurement {
	m := exporterMeasurement{name: e.name, stats: e.Stats()}
	inner := e.Exporter
	if locked, ok := inner.(lockedExporter); ok {
		inner = locked.Exporter
	}
	if q, ok := inner.(interface{ Queue() export.Queue }); ok {
		queue := q.Queue()
		m.queue = &queue
	}
	return m
}

// closeTelling ends the listener and the metrics, which tell of the service.
func (s *service) closeTelling() {
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout+time.Second)
	defer cancel()
	if err := s.listener.close(ctx); err != nil {
		s.logger.Warn("the listener was not closed", "error", err)
	}
	if err := s.metrics.close(ctx); err != nil {
		s.logger.Warn("the last metrics about otel-kprobe may not have arrived", "error", err)
	}
}
