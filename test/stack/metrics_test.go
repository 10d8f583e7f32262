package stack

import (
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// series are the metrics that Prometheus gets, by their names there, each with the
// labels that a query may name.
type series map[string]map[string]bool

// collectorConfig is what of collector-config.yaml decides names of metrics. The
// Collector itself checks the rest (test/e2e, TestShippedConfigIsValid).
type collectorConfig struct {
	Connectors struct {
		SpanMetrics struct {
			Histogram  struct{ Unit string }
			Dimensions []struct{ Name string }
		} `yaml:"span_metrics"`
	}
}

func readCollector(t *testing.T) collectorConfig {
	t.Helper()
	var config collectorConfig
	if err := yaml.Unmarshal(read(t, "collector-config.yaml"), &config); err != nil {
		t.Fatal(err)
	}
	return config
}

// dimensions are the attributes that metrics of spans have.
func (c collectorConfig) dimensions() []string {
	// Those that each has, https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/v0.159.0/connector/spanmetricsconnector/README.md
	names := []string{"service.name", "span.name", "span.kind", "status.code", "otel.metric.overflow"}
	for _, d := range c.Connectors.SpanMetrics.Dimensions {
		names = append(names, d.Name)
	}
	return names
}

// knownSeries names all metrics as deploy/prometheus.yaml says that they are to be
// named, with Prometheus's own library. That the Collector makes these is held by
// test/e2e, TestSampling.
func knownSeries(t *testing.T) series {
	t.Helper()
	collector := readCollector(t)
	namer := otlptranslator.NewMetricNamer("", readPrometheus(t).OTLP.TranslationStrategy)
	known := series{}
	for _, m := range []struct {
		metric     otlptranslator.Metric
		attributes []string
	}{
		{otlptranslator.Metric{Name: "traces.span.metrics.calls", Type: otlptranslator.MetricTypeMonotonicCounter}, collector.dimensions()},
		{otlptranslator.Metric{
			Name: "traces.span.metrics.duration", Unit: collector.Connectors.SpanMetrics.Histogram.Unit, Type: otlptranslator.MetricTypeExponentialHistogram,
		}, collector.dimensions()},
		// docs/spans.md, with by: device, as deploy/otel-kprobe-stack.yaml has it.
		{otlptranslator.Metric{
			Name: "otel_kprobe.block.request.duration", Unit: "s", Type: otlptranslator.MetricTypeExponentialHistogram,
		}, []string{"service.name", "host.name", "system.device"}},
	} {
		name, err := namer.Build(m.metric)
		if err != nil {
			t.Fatal(err)
		}
		known[name] = labelsOf(t, m.attributes)
	}
	for _, m := range ownMetrics(t) {
		name, err := namer.Build(m)
		if err != nil {
			t.Fatal(err)
		}
		known[name] = labelsOf(t, []string{
			"service.name", "host.name", "otel_kprobe.section", "otel_kprobe.reason", "otel.component.type", "error.type",
		})
	}
	// The Collector's own, which are asked for and so not translated.
	own := map[string]bool{"receiver": true, "exporter": true, "data_type": true, "policy": true, "sampled": true}
	for _, name := range []string{
		"otelcol_receiver_refused_spans",
		"otelcol_exporter_send_failed_spans",
		"otelcol_exporter_enqueue_failed_spans",
		"otelcol_exporter_queue_size",
		"otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
		"otelcol_processor_tail_sampling_global_count_traces_sampled",
		"otelcol_processor_tail_sampling_count_traces_sampled",
	} {
		known[name] = own
	}
	return known
}

// ownMetrics are the metrics about otel-kprobe, from docs/operations.md.
func ownMetrics(t *testing.T) []otlptranslator.Metric {
	t.Helper()
	kinds := map[string]otlptranslator.MetricType{
		"counter": otlptranslator.MetricTypeMonotonicCounter, "up-down counter": otlptranslator.MetricTypeNonMonotonicCounter,
	}
	var all []otlptranslator.Metric
	row := regexp.MustCompile("(?m)^\\| `(otel[a-z_.]+)` \\| ([a-z -]+) \\| `([^`]+)` \\|")
	for _, m := range row.FindAllStringSubmatch(string(read(t, "docs/operations.md")), -1) {
		kind, ok := kinds[m[2]]
		if !ok {
			t.Fatalf("docs/operations.md: %s is a %s, which this test does not know", m[1], m[2])
		}
		all = append(all, otlptranslator.Metric{Name: m[1], Unit: m[3], Type: kind})
	}
	if len(all) == 0 {
		t.Fatal("docs/operations.md has no metrics")
	}
	return all
}

func labelsOf(t *testing.T, attributes []string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, attribute := range attributes {
		name, err := new(otlptranslator.LabelNamer).Build(attribute)
		if err != nil {
			t.Fatal(err)
		}
		names[name] = true
	}
	return names
}

// checkPromQL parses a query and checks that it asks for what is there. Histograms
// are native ones: a name with _bucket would be none of these.
func checkPromQL(t *testing.T, known series, query string) {
	t.Helper()
	query = strings.NewReplacer("$__rate_interval", "1m", "$__range", "15m").Replace(query)
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return
	}
	asked := map[string]bool{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		if known[selector.Name] == nil {
			t.Errorf("%s: nobody sends %s", query, selector.Name)
			return nil
		}
		for name := range known[selector.Name] {
			asked[name] = true
		}
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name != model.MetricNameLabel && !known[selector.Name][matcher.Name] {
				t.Errorf("%s: %s has no label %s", query, selector.Name, matcher.Name)
			}
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if aggregate, ok := node.(*parser.AggregateExpr); ok {
			for _, name := range aggregate.Grouping {
				if !asked[name] {
					t.Errorf("%s: nothing that is asked for has a label %s", query, name)
				}
			}
		}
		return nil
	})
}

// attributeInTraceQL is an attribute with or without its scope.
var attributeInTraceQL = regexp.MustCompile(`(?:span|resource|link|event)?\.((?:[a-z_]+\.)*[a-z_]+)`)

// checkTraceQL checks that a query closes what it opens, and that docs/spans.md has a
// row for each attribute. No parser of TraceQL has a licence that this project could
// use.
func checkTraceQL(t *testing.T, attributes map[string]bool, query string) {
	t.Helper()
	for _, pair := range []string{"{}", "()"} {
		if strings.Count(query, pair[:1]) != strings.Count(query, pair[1:]) {
			t.Errorf("%s: a %s has no %s", query, pair[:1], pair[1:])
		}
	}
	if strings.Count(query, `"`)%2 != 0 {
		t.Errorf(`%s: a " is alone`, query)
	}
	bare := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(query, "")
	for _, found := range attributeInTraceQL.FindAllStringSubmatch(bare, -1) {
		if !attributes[found[1]] {
			t.Errorf("%s: docs/spans.md has no attribute %s", query, found[1])
		}
	}
}

// TestDimensionsAreAttributes checks that metrics of spans are by attributes that
// there are.
func TestDimensionsAreAttributes(t *testing.T) {
	collector := readCollector(t)
	attributes := documented(t)
	if len(collector.Connectors.SpanMetrics.Dimensions) == 0 {
		t.Fatal("collector-config.yaml has no dimensions of span_metrics")
	}
	for _, d := range collector.Connectors.SpanMetrics.Dimensions {
		if !attributes[d.Name] {
			t.Errorf("docs/spans.md has no attribute %s", d.Name)
		}
	}
	for _, found := range regexp.MustCompile(`span\.attributes\["([^"]+)"\]`).FindAllSubmatch(read(t, "collector-config.yaml"), -1) {
		if !attributes[string(found[1])] {
			t.Errorf("sampling goes by %s, which docs/spans.md does not have", found[1])
		}
	}
}
