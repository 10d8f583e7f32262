package e2e

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// recordedRequest is an HTTP request and its answer over the loopback of Linux 6.12,
// of which a thread sent the one and read the other in the span appSpanID.
const recordedRequest = "test/e2e/testdata/app.okrec"

const (
	appTraceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	appSpanID  = "00f067aa0ba902b7"
)

// recordedPackets is how many packets of it are tied to the span: the connection's
// first, the request and the answer.
const recordedPackets = 3

// linkPattern is one of deploy/jaeger-ui.json, as
// https://www.jaegertracing.io/docs/latest/frontend-ui/ has them.
type linkPattern struct{ Type, Key, URL, Text string }

// TestLinksOfJaegersPage sends an application's trace and the packets that it caused,
// and follows the links that our configuration adds to Jaeger's page both ways.
func TestLinksOfJaegersPage(t *testing.T) {
	binary := binaryUnderTest(t)
	s := startStack(t)
	patterns := readLinkPatterns(t)
	sent := replayTo(t, binary, s.collector.GRPC, recordedRequest)
	from, to := timesOf(sent)
	sendAppSpan(t, s.collector.GRPC, from, to)
	s.inJaeger(t, "otel-kprobe", sent)

	var want []string
	for i := range sent {
		span := &sent[i]
		if span.Attributes["otel_kprobe.app.trace_id"] == nil {
			continue
		}
		want = append(want, span.TraceID)
		checkLinkToApp(t, span)
		checkAppPage(t, s, patterns["tags"], span.Attributes)
	}
	slices.Sort(want)
	if len(want) != recordedPackets {
		t.Errorf("%d packets are tied to the span, want %d", len(want), recordedPackets)
	}
	page, err := url.Parse(strings.ReplaceAll(patterns["traces"].URL, "#{traceID}", appTraceID))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := s.client.PageSearch(ctx, page.Query(), from.Add(-time.Second), to.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, found); page.Path != "/search" || diff != "" {
		t.Errorf("%s finds (-want +got):\n%s", page, diff)
	}
}

// TestSummariesInJaeger replays with --correlate=child and expects in the application's
// trace, besides its span, what that sent and what it read.
func TestSummariesInJaeger(t *testing.T) {
	binary := binaryUnderTest(t)
	s := startStack(t)
	packets := map[string]int64{}
	sent := replayTo(t, binary, s.collector.GRPC, recordedRequest, "--correlate", "child")
	from, to := timesOf(sent)
	sendAppSpan(t, s.collector.GRPC, from, to)
	for _, span := range sent {
		if span.TraceID != appTraceID {
			continue
		}
		packets[span.Name], _ = span.Attributes["otel_kprobe.summary.packets"].(int64)
		if span.ParentSpanID != appSpanID || len(span.Links) != int(packets[span.Name]) {
			t.Errorf("%s is below %q with %d links", span.Name, span.ParentSpanID, len(span.Links))
		}
	}
	// The connection's first packet and the request; the answer.
	if diff := cmp.Diff(map[string]int64{"packets sent": 2, "packets read": 1}, packets); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client.AwaitTrace(ctx, appTraceID, 1+len(packets)); err != nil {
		t.Fatal(err)
	}
	trace, err := s.client.PageTrace(ctx, appTraceID)
	if err != nil {
		t.Fatal(err)
	}
	var children []string
	for _, span := range trace.Spans {
		if len(span.Warnings) > 0 {
			t.Errorf("Jaeger warns of %s: %q", span.OperationName, span.Warnings)
		}
		if parent, ok := span.Parent(); ok && parent.SpanID == appSpanID {
			children = append(children, span.OperationName)
		}
	}
	slices.Sort(children)
	if diff := cmp.Diff([]string{"packets read", "packets sent"}, children); diff != "" || len(trace.Spans) != 1+len(children) {
		t.Errorf("the application's trace has %d spans, below its own (-want +got):\n%s", len(trace.Spans), diff)
	}
}

// TestCopiesInJaeger replays with --correlate=full and expects the application's trace to
// be one tree in Jaeger: its span, the summaries, packets, functions.
func TestCopiesInJaeger(t *testing.T) {
	binary := binaryUnderTest(t)
	s := startStack(t)
	sent := replayTo(t, binary, s.collector.GRPC, recordedRequest, "--correlate", "full")
	from, to := timesOf(sent)
	sendAppSpan(t, s.collector.GRPC, from, to)
	total := 1 // the application's own
	for i := range sent {
		if sent[i].TraceID == appTraceID {
			total++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client.AwaitTrace(ctx, appTraceID, total); err != nil {
		t.Fatal(err)
	}
	trace, err := s.client.PageTrace(ctx, appTraceID)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, span := range trace.Spans {
		names[span.SpanID] = span.OperationName
	}
	packets := 0
	for _, span := range trace.Spans {
		if len(span.Warnings) > 0 {
			t.Errorf("Jaeger warns of %s: %q", span.OperationName, span.Warnings)
		}
		parent, below := span.Parent()
		if below && names[parent.SpanID] == "" {
			t.Errorf("%s has no parent", span.OperationName)
		}
		if strings.HasPrefix(span.OperationName, "packet ") {
			packets++
			if name := names[parent.SpanID]; !strings.HasPrefix(name, "packets ") {
				t.Errorf("%s is below %q, want a summary", span.OperationName, name)
			}
		}
	}
	if len(trace.Spans) != total || packets != recordedPackets {
		t.Errorf("%d spans with %d packets, want %d with %d", len(trace.Spans), packets, total, recordedPackets)
	}
}

// readLinkPatterns reads our configuration: one pattern of each type.
func readLinkPatterns(t *testing.T) map[string]linkPattern {
	t.Helper()
	root, err := RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, JaegerUIConfig))
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ LinkPatterns []linkPattern }
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatalf("%s: %v", JaegerUIConfig, err)
	}
	patterns := map[string]linkPattern{}
	for _, p := range config.LinkPatterns {
		patterns[p.Type] = p
	}
	if len(patterns) != 2 || patterns["tags"].Key != "otel_kprobe.app.trace_id" || patterns["traces"].URL == "" {
		t.Fatalf("%s has the patterns %+v, want one of a trace and one of the attribute", JaegerUIConfig, patterns)
	}
	return patterns
}

// appIDs gives the application's span its ids.
type appIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

func (i appIDs) NewIDs(context.Context) (trace.TraceID, trace.SpanID)       { return i.trace, i.span }
func (i appIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) { return i.span }

// timesOf are the earliest start and the latest end of spans.
func timesOf(sent []Span) (from, to time.Time) {
	for i := range sent {
		if at := time.Unix(0, int64(sent[i].StartUnixNs)); from.IsZero() || at.Before(from) {
			from = at
		}
		if at := time.Unix(0, int64(sent[i].EndUnixNs)); at.After(to) {
			to = at
		}
	}
	return from, to
}

// sendAppSpan sends the application's trace, of one span.
func sendAppSpan(t *testing.T, endpoint string, from, to time.Time) {
	t.Helper()
	var ids appIDs
	var err error
	if ids.trace, err = trace.TraceIDFromHex(appTraceID); err != nil {
		t.Fatal(err)
	}
	if ids.span, err = trace.SpanIDFromHex(appSpanID); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithIDGenerator(ids))
	_, span := provider.Tracer("app").Start(ctx, "GET /", trace.WithTimestamp(from))
	span.End(trace.WithTimestamp(to))
	if err := provider.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// checkLinkToApp expects a packet's root to be linked to the span, once.
func checkLinkToApp(t *testing.T, span *Span) {
	t.Helper()
	links := slices.DeleteFunc(slices.Clone(span.Links), func(l Link) bool { return l.TraceID != appTraceID })
	if len(links) != 1 || links[0].SpanID != appSpanID {
		t.Errorf("%s of trace %s has the links %+v to the application", span.Name, span.TraceID, links)
	}
}

// checkAppPage expects the link of the attribute to lead to the application's span.
func checkAppPage(t *testing.T, s *stack, pattern linkPattern, attributes map[string]any) {
	t.Helper()
	address := pattern.URL
	for _, key := range []string{"otel_kprobe.app.trace_id", "otel_kprobe.app.span_id"} {
		value, _ := attributes[key].(string)
		address = strings.ReplaceAll(address, "#{"+key+"}", value)
	}
	page, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	app, err := s.client.PageTrace(ctx, strings.TrimPrefix(page.Path, "/trace/"))
	if err != nil {
		t.Fatal(err)
	}
	if len(app.Spans) != 1 || app.Spans[0].SpanID != page.Query().Get("uiFind") {
		t.Errorf("%s leads to the spans %+v, want that of the application", page, app.Spans)
	}
}
