package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/otelconv"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// Attributes of the metrics that are otel-kprobe's own.
const (
	keySection attribute.Key = "otel_kprobe.section" // packets or block
	keyReason  attribute.Key = "otel_kprobe.reason"  // as in the closing summary; cpu or loss
	keyOutcome attribute.Key = "otel_kprobe.outcome" // applied or refused
)

// measurements are what the metrics are made of.
type measurements struct {
	sections               map[string]export.Summary
	exporters              []exporterMeasurement
	reloads, reloadsFailed uint64
}

type exporterMeasurement struct {
	name  string
	stats export.Stats
	queue *export.Queue // nil: there is none
}

// observe gives one value.
type observe func(value uint64, attributes ...attribute.KeyValue)

// ownMetric is one metric of the table in docs/operations.md.
type ownMetric struct {
	name, unit, doc string
	level           bool // it can go down
	read            func(m *measurements, observe observe)
}

// allMetrics are the metrics about the service. Names of otel.sdk are those of
// https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/.
func allMetrics() []ownMetric {
	return append(sdkMetrics(), kprobeMetrics()...)
}

func sdkMetrics() []ownMetric {
	var (
		exported otelconv.SDKExporterSpanExported
		inflight otelconv.SDKExporterSpanInflight
		size     otelconv.SDKProcessorSpanQueueSize
		capacity otelconv.SDKProcessorSpanQueueCapacity
	)
	var processed otelconv.SDKProcessorSpanProcessed
	return []ownMetric{
		{exported.Name(), exported.Unit(), exported.Description(), false, func(m *measurements, observe observe) {
			m.eachExporter(func(e *exporterMeasurement, exporter, _ []attribute.KeyValue) {
				observe(e.stats.Exported, exporter...)
				observe(e.stats.Rejected, append(exporter, semconv.ErrorTypeKey.String("rejected"))...)
				observe(e.stats.Failed, append(exporter, semconv.ErrorTypeOther)...)
			})
		}},
		{inflight.Name(), inflight.Unit(), inflight.Description(), true, func(m *measurements, observe observe) {
			m.eachQueue(func(q *export.Queue, exporter, _ []attribute.KeyValue) { observe(uint64(q.Flying), exporter...) })
		}},
		{processed.Name(), processed.Unit(), processed.Description(), false, func(m *measurements, observe observe) {
			m.eachExporter(func(e *exporterMeasurement, _, processor []attribute.KeyValue) {
				observe(e.stats.Exported+e.stats.Rejected+e.stats.Failed, processor...)
				observe(e.stats.Dropped, append(processor, semconv.ErrorTypeKey.String("queue_full"))...)
				observe(e.stats.Unsent, append(processor, semconv.ErrorTypeKey.String("already_shutdown"))...)
			})
		}},
		{size.Name(), size.Unit(), size.Description(), true, func(m *measurements, observe observe) {
			m.eachQueue(func(q *export.Queue, _, processor []attribute.KeyValue) { observe(uint64(q.Waiting), processor...) })
		}},
		{capacity.Name(), capacity.Unit(), capacity.Description(), true, func(m *measurements, observe observe) {
			m.eachQueue(func(q *export.Queue, _, processor []attribute.KeyValue) {
				if q.Capacity > 0 {
					observe(uint64(q.Capacity), processor...)
				}
			})
		}},
	}
}

func kprobeMetrics() []ownMetric {
	return []ownMetric{
		{"otel_kprobe.probes", "{probe}", "Functions and tracepoints that are probed now.", true, perSection(func(s *export.Summary) uint64 { return s.Attached })},
		{"otel_kprobe.records", "{record}", "Frames, or requests and bios, that came from the kernel.", false, perSection(func(s *export.Summary) uint64 { return s.Frames + s.Requests })},
		{"otel_kprobe.traces", "{trace}", "Traces that were given to the exporters.", false, perSection(func(s *export.Summary) uint64 { return s.Traces })},
		{"otel_kprobe.traces.passed_over", "{trace}", "Traces that `only` does not want; no loss.", false, perSection(func(s *export.Summary) uint64 { return s.PassedOver })},
		{"otel_kprobe.unsampled", "{event}", "Packets, or requests and bios, that `sample` left out; no loss.", false, perSection(func(s *export.Summary) uint64 { return s.Unsampled })},
		{"otel_kprobe.unfinished", "{trace}", "Packets and requests whose end was not seen.", false, perSection(func(s *export.Summary) uint64 {
			return s.Tracker.Unfinished + s.BlockTracker.Unfinished
		})},
		{"otel_kprobe.open", "{trace}", "Packets and requests that are followed now.", true, perSection(func(s *export.Summary) uint64 {
			return s.Tracker.Open + s.BlockTracker.Open
		})},
		{"otel_kprobe.kernel.lost", "{event}", "What the kernel side could not send or follow, by reason: `kernel_lost` of the closing summary.", false, func(m *measurements, observe observe) {
			m.eachSection(func(name string, s *export.Summary) {
				for _, reason := range slices.Sorted(maps.Keys(s.KernelLost)) {
					observe(s.KernelLost[reason], keySection.String(name), keyReason.String(reason))
				}
			})
		}},
		{"otel_kprobe.tracker.lost", "{event}", "What the trackers gave up or never got, by reason: `tracker` and `block_tracker` of the closing summary.", false, func(m *measurements, observe observe) {
			m.eachSection(func(name string, s *export.Summary) {
				for _, c := range trackerLosses(name, s) {
					observe(c.Value, keySection.String(name), keyReason.String(c.Name))
				}
			})
		}},
		{"otel_kprobe.shed.functions", "{function}", "Functions that are shed now, since more events came than `max_events` permits.", true, ofSection(sectionPackets, func(s *export.Summary) uint64 { return s.FunctionsShed })},
		{"otel_kprobe.shed.frames", "{frame}", "Frames that were not recorded because their function was shed.", false, ofSection(sectionPackets, func(s *export.Summary) uint64 { return s.FramesShed })},
		{"otel_kprobe.watchdog.exceeded", "{window}", "Windows of 10 s in which tracing passed a limit, by reason: `cpu` (`max_cpu`) or `loss` (`max_loss`). After two in a row it ends.", false, func(m *measurements, observe observe) {
			m.eachSection(func(name string, s *export.Summary) {
				observe(s.CPUExceeded, keySection.String(name), keyReason.String("cpu"))
				observe(s.LossExceeded, keySection.String(name), keyReason.String("loss"))
			})
		}},
		{"otel_kprobe.histogram.sends.failed", "{send}", "Sends of the latency histograms that did not arrive whole; the next one has all of it.", false, ofSection(sectionBlock, func(s *export.Summary) uint64 { return s.HistogramSendsFailed })},
		{"otel_kprobe.config.reloads", "{reload}", "Times that the configuration was read again: applied or refused.", false, func(m *measurements, observe observe) {
			observe(m.reloads, keyOutcome.String("applied"))
			observe(m.reloadsFailed, keyOutcome.String("refused"))
		}},
	}
}

// trackerLosses are the counters of a section's tracker, by their names in the
// closing summary.
func trackerLosses(section string, s *export.Summary) []export.Count {
	if section == sectionBlock {
		t := &s.BlockTracker
		return []export.Count{{Name: "evicted", Value: t.Evicted}, {Name: "orphans", Value: t.Orphans}, {Name: "stranded", Value: t.Stranded}}
	}
	t := &s.Tracker
	return []export.Count{
		{Name: "evicted", Value: t.Evicted},
		{Name: "late", Value: t.Late},
		{Name: "left_out", Value: t.LeftOut},
		{Name: "lost_ends", Value: t.LostEnds},
		{Name: "lost_frames", Value: t.LostFrames},
		{Name: "lost_starts", Value: t.LostStarts},
	}
}

func perSection(value func(*export.Summary) uint64) func(*measurements, observe) {
	return func(m *measurements, observe observe) {
		m.eachSection(func(name string, s *export.Summary) { observe(value(s), keySection.String(name)) })
	}
}

// ofSection is of what only one section has.
func ofSection(section string, value func(*export.Summary) uint64) func(*measurements, observe) {
	return func(m *measurements, observe observe) {
		if s, ok := m.sections[section]; ok {
			observe(value(&s))
		}
	}
}

func (m *measurements) eachSection(visit func(name string, s *export.Summary)) {
	for _, name := range slices.Sorted(maps.Keys(m.sections)) {
		s := m.sections[name]
		visit(name, &s)
	}
}

// eachExporter visits the exporters with the attributes that name each one, and
// the queue before it.
func (m *measurements) eachExporter(visit func(e *exporterMeasurement, exporter, processor []attribute.KeyValue)) {
	for i := range m.exporters {
		e := &m.exporters[i]
		kind := semconv.OTelComponentTypeKey.String("otel_kprobe_" + e.name + "_exporter")
		if e.name == exporterOTLP {
			kind = semconv.OTelComponentTypeOtlpGRPCSpanExporter
		}
		queue := semconv.OTelComponentTypeBatchingSpanProcessor
		visit(
			e,
			[]attribute.KeyValue{kind, semconv.OTelComponentName(kind.Value.AsString() + "/0")},
			[]attribute.KeyValue{queue, semconv.OTelComponentName(queue.Value.AsString() + "/" + strconv.Itoa(i))},
		)
	}
}

func (m *measurements) eachQueue(visit func(q *export.Queue, exporter, processor []attribute.KeyValue)) {
	m.eachExporter(func(e *exporterMeasurement, exporter, processor []attribute.KeyValue) {
		if e.queue != nil {
			visit(e.queue, exporter, processor)
		}
	})
}

// registerMetrics makes the instruments, which ask measured when they are read.
func registerMetrics(meter metric.Meter, measured func() measurements) error {
	all := allMetrics()
	instruments := make([]metric.Int64Observable, len(all))
	observables := make([]metric.Observable, len(all))
	for i, m := range all {
		var err error
		if m.level {
			instruments[i], err = meter.Int64ObservableUpDownCounter(m.name, metric.WithUnit(m.unit), metric.WithDescription(m.doc))
		} else {
			instruments[i], err = meter.Int64ObservableCounter(m.name, metric.WithUnit(m.unit), metric.WithDescription(m.doc))
		}
		if err != nil {
			return fmt.Errorf("make the metric %s: %w", m.name, err)
		}
		observables[i] = instruments[i]
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := measured()
		for i, m := range all {
			m.read(&now, func(value uint64, attributes ...attribute.KeyValue) {
				o.ObserveInt64(instruments[i], int64(value), metric.WithAttributes(slices.Clone(attributes)...))
			})
		}
		return nil
	}, observables...)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}
