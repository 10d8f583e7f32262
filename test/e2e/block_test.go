package e2e

import (
	"bytes"
	"os"
	"testing"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// TestBlockDelivery traces a dd to a disk in a VM and expects its spans, to the
// nanosecond, in the Collector's file and in Jaeger, and in the Collector the
// histogram of their latencies, whose exemplar is one of the spans.
func TestBlockDelivery(t *testing.T) {
	s := startStack(t)
	const dd = "dd if=/dev/zero of=/dev/scratch bs=64k count=8 oflag=direct conv=fsync status=none"
	sent := runInVM(t, binaryUnderTest(t), dd, s.collector.GRPC, "block", "--device", "/dev/scratch")
	requests := map[string]bool{} // by trace and span
	for _, span := range sent {
		if _, ok := span.Attributes["otel_kprobe.block.level"]; ok {
			requests[span.TraceID+span.SpanID] = true
		}
	}
	if len(requests) < 8 {
		t.Fatalf("%d requests of %d spans, want at least the 8 of dd", len(requests), len(sent))
	}
	report(t, "Collector beside otel-kprobe's file", Compare(sent, s.collected(t)))
	kept, err := AsJaegerKeeps(sent)
	if err != nil {
		t.Fatal(err)
	}
	report(t, "Jaeger beside otel-kprobe's file", Compare(kept, s.inJaeger(t, "otel-kprobe", sent)))
	checkHistogram(t, lastHistogram(t, s.collector.MetricsFile), requests)
}

// lastHistogram reads the last point of the only metric that the Collector got:
// the counts are sums since the start.
func lastHistogram(t *testing.T, path string) pmetric.ExponentialHistogramDataPoint {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	metrics, err := new(pmetric.JSONUnmarshaler).UnmarshalMetrics(lines[len(lines)-1])
	if err != nil || metrics.MetricCount() != 1 {
		t.Fatalf("the Collector got %d metrics, want 1: %v\n%s", metrics.MetricCount(), err, text)
	}
	m := metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	if m.Name() != "otel_kprobe.block.request.duration" || m.Unit() != "s" || m.Type() != pmetric.MetricTypeExponentialHistogram {
		t.Fatalf("metric %q in %q, a %v", m.Name(), m.Unit(), m.Type())
	}
	points := m.ExponentialHistogram().DataPoints()
	return points.At(points.Len() - 1)
}

func checkHistogram(t *testing.T, p pmetric.ExponentialHistogramDataPoint, requests map[string]bool) {
	t.Helper()
	sum := uint64(0)
	for _, n := range p.Positive().BucketCounts().All() {
		sum += n
	}
	if want := uint64(len(requests)); p.Count() != want || sum != want {
		t.Errorf("count %d, in the buckets %d, want %d requests", p.Count(), sum, want)
	}
	if p.Exemplars().Len() != 1 {
		t.Fatalf("%d exemplars, want 1", p.Exemplars().Len())
	}
	e := p.Exemplars().At(0)
	if !requests[e.TraceID().String()+e.SpanID().String()] || e.DoubleValue() != p.Max() {
		t.Errorf("exemplar %s of %v s is no request that was sent, or not the slowest, %v s", e.SpanID(), e.DoubleValue(), p.Max())
	}
}
