package e2e

import (
	"bufio"
	"bytes"
	"context"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// ourScope is the instrumentation scope of otel-kprobe's spans.
const ourScope = "github.com/otel-kprobe/otel-kprobe"

// sampled is a kind of trace, of which many are sent.
type sampled struct {
	name   string // of the root, and what is counted
	scope  string
	traces int
	spans  int           // of each trace
	took   time.Duration // the root
	failed bool
	attr   map[string]string // of the root
	kept   bool              // all of them, whatever else comes
}

// sampledKinds are traces of which each but the last is kept by one policy alone.
// The last one is far above what is kept of the rest.
func sampledKinds() []sampled {
	return []sampled{
		{
			name: "packet tx udp", scope: ourScope, traces: 50, spans: 3, failed: true, kept: true,
			attr: map[string]string{"otel_kprobe.drop.reason": "NO_SOCKET", "otel_kprobe.end": "dropped"},
		},
		{
			name: "packet rx udp", scope: ourScope, traces: 50, spans: 3, kept: true,
			attr: map[string]string{"otel_kprobe.drop.reason": "NETFILTER_DROP", "otel_kprobe.end": "delivered"},
		},
		{
			name: "block write", scope: ourScope, traces: 50, spans: 2, took: time.Second, kept: true,
			attr: map[string]string{"system.device": "sda"},
		},
		{
			name: "packet tx tcp", scope: ourScope, traces: 50, spans: 3, kept: true,
			attr: map[string]string{"otel_kprobe.app.trace_id": "0af7651916cd43dd8448eb211c80319c"},
		},
		{name: "GET /", scope: "net/http", traces: 50, spans: 1, kept: true},
		{
			name: "packet rx tcp", scope: ourScope, traces: 3000, spans: 30,
			attr: map[string]string{"otel_kprobe.end": "delivered"},
		},
	}
}

// TestSampling sends a flood of ordinary traces, and some of each kind that is worth
// a look, to a Collector with the sampling that users get. It expects all of the
// latter, some of the former, each of them whole, and all of them counted in the
// metrics of spans. The Collector's own metrics say the same.
func TestSampling(t *testing.T) {
	c := startSampling(t)
	sendKinds(t, c.GRPC)
	want := map[string]int{}
	for _, k := range sampledKinds() {
		want[k.name] = k.traces
	}
	awaitCounts(t, c.SpanMetricsFile, want)
	own := awaitDecisions(t, c.Telemetry, want)
	stopCollector(t, c)
	traces, err := ReadTracesFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	checkKept(t, Flatten(traces))
	for _, name := range ownMetrics() {
		if _, ok := own[name]; !ok {
			t.Errorf("the Collector shows no %s, which the dashboards ask for; it has %v", name, slices.Sorted(maps.Keys(own)))
		}
	}
}

// ownMetrics are the Collector's metrics that deploy/grafana's dashboards ask for, but
// those of queues: the file exporter has none, and Tempo's is never full here.
func ownMetrics() []string {
	return []string{
		"otelcol_receiver_refused_spans",
		"otelcol_exporter_send_failed_spans",
		"otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
		"otelcol_processor_tail_sampling_global_count_traces_sampled",
		"otelcol_processor_tail_sampling_count_traces_sampled",
	}
}

func startSampling(t *testing.T) *Collector {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	c, err := StartCollector(ctx, t.TempDir(), CollectorOptions{Sampling: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopCollector(t, c)
		if t.Failed() {
			t.Log(c.Log())
		}
	})
	return c
}

// sendKinds sends all traces of sampledKinds within moments.
func sendKinds(t *testing.T, endpoint string) {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := ptraceotlp.NewGRPCClient(conn)
	number := uint64(0)
	for _, k := range sampledKinds() {
		for sent := 0; sent < k.traces; sent += 50 {
			batch := k.batch(&number, min(50, k.traces-sent))
			if _, err := client.Export(t.Context(), ptraceotlp.NewExportRequestFromTraces(batch)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// batch makes n traces of the kind; number is that of the last trace.
func (k sampled) batch(number *uint64, n int) ptrace.Traces {
	traces := ptrace.NewTraces()
	resource := traces.ResourceSpans().AppendEmpty()
	resource.Resource().Attributes().PutStr("service.name", "e2e")
	scope := resource.ScopeSpans().AppendEmpty()
	scope.Scope().SetName(k.scope)
	begin := time.Now()
	for range n {
		*number++
		for i := range k.spans {
			span := scope.Spans().AppendEmpty()
			span.SetTraceID(traceID(*number))
			span.SetSpanID(spanID(*number, i))
			span.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
			span.SetEndTimestamp(pcommon.NewTimestampFromTime(begin.Add(time.Microsecond)))
			if i > 0 {
				span.SetParentSpanID(spanID(*number, 0))
				span.SetName("ip_rcv")
				span.Attributes().PutStr("otel_kprobe.stage", "ip")
				continue
			}
			span.SetName(k.name)
			span.SetEndTimestamp(pcommon.NewTimestampFromTime(begin.Add(k.took + 2*time.Microsecond)))
			for key, value := range k.attr {
				span.Attributes().PutStr(key, value)
			}
			if k.failed {
				span.Status().SetCode(ptrace.StatusCodeError)
			}
		}
	}
	return traces
}

// traceID spreads numbers over all ids: sampling goes by their hash.
func traceID(number uint64) pcommon.TraceID {
	var id pcommon.TraceID
	for i := range id {
		id[i] = byte(number * 0x9e3779b97f4a7c15 >> (8 * (i % 8)))
	}
	return id
}

func spanID(number uint64, i int) pcommon.SpanID {
	return pcommon.SpanID{byte(i + 1), 0, 0, 0, byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)}
}

// awaitCounts waits until the metrics of spans have the counts that want says, by the
// name of the span, and checks what the dashboards rely on.
func awaitCounts(t *testing.T, path string, want map[string]int) {
	t.Helper()
	var got map[string]int
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if got = calls(t, path); cmp.Equal(want, got) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("calls by span name (-want +got):\n%s", cmp.Diff(want, got))
		}
	}
}

// calls reads the last counts of roots out of a file of metrics that is being written.
func calls(t *testing.T, path string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		metrics, err := new(pmetric.JSONUnmarshaler).UnmarshalMetrics(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range metrics.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				countCalls(t, scope.Metrics(), counts)
			}
		}
	}
	return counts
}

func countCalls(t *testing.T, metrics pmetric.MetricSlice, counts map[string]int) {
	t.Helper()
	for _, m := range metrics.All() {
		switch m.Name() {
		case "traces.span.metrics.calls":
		case "traces.span.metrics.duration":
			if m.Unit() != "s" || m.Type() != pmetric.MetricTypeExponentialHistogram {
				t.Fatalf("durations in %q, a %v; the dashboards want exponential histograms in s", m.Unit(), m.Type())
			}
			continue
		default:
			t.Fatalf("metric %q of spans is not known", m.Name())
		}
		for _, p := range m.Sum().DataPoints().All() {
			checkDimensions(t, p.Attributes().AsRaw())
			if name, ok := p.Attributes().Get("span.name"); ok && name.Str() != "ip_rcv" {
				counts[name.Str()] = int(p.IntValue())
			}
		}
	}
}

// checkDimensions checks attributes of a data point against the kind of span that it
// counts.
func checkDimensions(t *testing.T, got map[string]any) {
	t.Helper()
	want := map[string]any{
		"service.name": "e2e", "span.name": got["span.name"], "span.kind": "SPAN_KIND_UNSPECIFIED", "status.code": "STATUS_CODE_UNSET",
	}
	if got["span.name"] == "ip_rcv" {
		want["otel_kprobe.stage"] = "ip"
	}
	for _, k := range sampledKinds() {
		if k.name != got["span.name"] {
			continue
		}
		for key, value := range k.attr {
			if key != "otel_kprobe.app.trace_id" { // as many values as requests
				want[key] = value
			}
		}
		if k.failed {
			want["status.code"] = "STATUS_CODE_ERROR"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("dimensions of %v (-want +got):\n%s", got["span.name"], diff)
	}
}

// awaitDecisions waits until sampling has decided upon all traces, and returns the
// Collector's own metrics.
func awaitDecisions(t *testing.T, address string, want map[string]int) map[string]float64 {
	t.Helper()
	total := 0
	for _, n := range want {
		total += n
	}
	const decided = "otelcol_processor_tail_sampling_global_count_traces_sampled"
	var own map[string]float64
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if own = scrape(t, address); own[decided] == float64(total) {
			return own
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %v, want %d; all: %v", decided, own[decided], total, own)
		}
	}
}

// scrape reads metrics as Prometheus does, the series of a name added up.
func scrape(t *testing.T, address string) map[string]float64 {
	t.Helper()
	client := newHTTPClient()
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	// What Prometheus asks for first.
	request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		series, value, ok := cutLast(lines.Text(), " ")
		if !ok || strings.HasPrefix(series, "#") {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("read %q: %v", lines.Text(), err)
		}
		name, _, _ := strings.Cut(series, "{")
		sums[name] += number
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sums
}

func cutLast(s, separator string) (before, after string, ok bool) {
	at := strings.LastIndex(s, separator)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(separator):], true
}

// checkKept checks which traces came through, and that none came in part.
func checkKept(t *testing.T, spans []Span) {
	t.Helper()
	roots, perTrace := map[string]int{}, map[string]int{}
	nameOf := map[string]string{}
	for _, span := range spans {
		perTrace[span.TraceID]++
		if span.ParentSpanID == "" {
			roots[span.Name]++
			nameOf[span.TraceID] = span.Name
		}
	}
	for _, k := range sampledKinds() {
		switch got := roots[k.name]; {
		case k.kept && got != k.traces:
			t.Errorf("%d traces %q were kept, want all %d", got, k.name, k.traces)
		case !k.kept && (got == 0 || got > k.traces/2):
			t.Errorf("%d traces %q of %d were kept, want some and less than half", got, k.name, k.traces)
		}
		for id, name := range nameOf {
			if name == k.name && perTrace[id] != k.spans {
				t.Errorf("trace %s of %q has %d spans, want %d", id, name, perTrace[id], k.spans)
			}
		}
	}
}
