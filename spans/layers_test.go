package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// encodeLayers is encode with a layered envelope.
func encodeLayers(t *testing.T, e *Envelope, tr *Trace) *tracepb.TracesData {
	t.Helper()
	buf := e.Reserve(nil)
	var ends []LayerEnd
	for i := range tr.Spans {
		buf = AppendOTLPSpan(buf, tr, i)
		ends = append(ends, LayerEnd{tr.LayerOf(i), len(buf)})
	}
	td, size := &tracepb.TracesData{}, 0
	for _, message := range e.CloseLayers(buf, ends) {
		rs := &tracepb.ResourceSpans{}
		if err := proto.Unmarshal(message, rs); err != nil {
			t.Fatalf("decode our bytes: %v", err)
		}
		td.ResourceSpans = append(td.ResourceSpans, rs)
		size += len(message)
	}
	if most := len(AppendOTLP(nil, tr)) + e.Overhead(); size > most {
		t.Errorf("%d bytes, more than the %d of the spans and the overhead", size, most)
	}
	return td
}

// Layers hold the spans that one resource would, each once, by stage; resources
// differ in service.name only; JSON says the same.
func TestLayers(t *testing.T) {
	everyScenario(t, func(t *testing.T, tr *Trace) {
		r, s := testEnvelope()
		e := NewLayeredEnvelope(r, s)
		got := encodeLayers(t, e, tr)
		line := e.AppendJSON(nil, tr)
		if diff := cmp.Diff(got, decodeOTLPJSON(t, line), protocmp.Transform()); diff != "" {
			t.Errorf("JSON differs (-protobuf +JSON):\n%s", diff)
		}
		want := map[string]*tracepb.ResourceSpans{}
		for i, span := range encode(t, r, s, tr).ScopeSpans[0].Spans {
			service := tr.LayerOf(i).serviceName()
			if want[service] == nil {
				want[service] = encode(t, r.named(service), s, &Trace{})
				want[service].ScopeSpans[0].Spans = nil
			}
			want[service].ScopeSpans[0].Spans = append(want[service].ScopeSpans[0].Spans, span)
		}
		if len(got.ResourceSpans) != len(want) {
			t.Errorf("%d resources, want %d", len(got.ResourceSpans), len(want))
		}
		for _, rs := range got.ResourceSpans {
			service := serviceOf(rs)
			if service == serviceOf(encode(t, r, s, tr)) {
				service = ""
			}
			if diff := cmp.Diff(want[service], rs, protocmp.Transform()); diff != "" {
				t.Errorf("service %q (-want +got):\n%s", service, diff)
			}
		}
	})
}

func serviceOf(rs *tracepb.ResourceSpans) string {
	for _, a := range rs.Resource.Attributes {
		if a.Key == serviceNameKey {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// What layers are called, in the order in which they are sent.
func TestLayerNames(t *testing.T) {
	k := newFakeKernel()
	tr := testBuilder(k).Build(&queued(k).Journey)
	r, s := testEnvelope()
	var names []string
	for _, rs := range encodeLayers(t, NewLayeredEnvelope(r, s), tr).ResourceSpans {
		names = append(names, serviceOf(rs))
	}
	want := []string{
		serviceOf(encode(t, r, s, tr)), "kernel socket", "kernel udp", "kernel ip", "kernel qdisc", "kernel device", "kernel receive", "kernel wait",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if block := (&Trace{Block: true, Spans: []Span{{}, {Wait: true}}}).LayerOf(1); block != LayerTrace {
		t.Errorf("a span of a block request is of layer %d, want its trace's", block)
	}
}
