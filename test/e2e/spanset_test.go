package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample returns a span with every field set.
func sample() Span {
	return Span{
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331", ParentSpanID: "00f067aa0ba902b7",
		Name: "ip_output", Kind: "Internal", StartUnixNs: 1795403625123456789, EndUnixNs: 1795403625123456999,
		Status: "Error", StatusMessage: "NO_SOCKET",
		Attributes: map[string]any{"otel_kprobe.skb.len": int64(84), "list": []any{"a", int64(1)}},
		Resource:   map[string]any{"service.name": "otel-kprobe"},
		ScopeName:  "otel-kprobe", ScopeVersion: "1",
		Links:  []Link{{TraceID: "1af7651916cd43dd8448eb211c80319c", SpanID: "c7ad6b7169203331"}},
		Events: []Event{{Name: "drop", TimeUnixNs: 1795403625123456790}},
	}
}

func changed(change func(*Span)) Span {
	span := sample()
	change(&span)
	return span
}

func TestCompare(t *testing.T) {
	other := changed(func(s *Span) { s.SpanID = "ffffffffffffffff"; s.Name = "ip_rcv" })
	tests := []struct {
		name      string
		want, got []Span
		// One fragment for each difference, in order.
		differences []string
	}{
		{name: "both empty"},
		{name: "equal", want: []Span{sample()}, got: []Span{sample()}},
		{name: "other order", want: []Span{sample(), other}, got: []Span{other, sample()}},
		{
			name: "absent and empty are one", want: []Span{changed(func(s *Span) { s.Attributes, s.Events = nil, nil })},
			got: []Span{changed(func(s *Span) { s.Attributes, s.Events = map[string]any{}, []Event{} })},
		},
		{name: "missing", want: []Span{sample(), other}, got: []Span{sample()}, differences: []string{"(ip_rcv) is missing"}},
		{name: "never sent", want: []Span{sample()}, got: []Span{other, sample()}, differences: []string{"(ip_rcv) was never sent"}},
		{name: "twice", want: []Span{sample()}, got: []Span{sample(), sample()}, differences: []string{"want 1 of it, got 2"}},
		{
			name: "other trace", want: []Span{sample()}, got: []Span{changed(func(s *Span) { s.TraceID = "f" + s.TraceID[1:] })},
			differences: []string{"is missing", "was never sent"},
		},
	}
	fields := map[string]func(*Span){
		"ParentSpanID":  func(s *Span) { s.ParentSpanID = "" },
		"Name":          func(s *Span) { s.Name = "ip_rcv" },
		"Kind":          func(s *Span) { s.Kind = "Server" },
		"StartUnixNs":   func(s *Span) { s.StartUnixNs++ },
		"EndUnixNs":     func(s *Span) { s.EndUnixNs-- },
		"Status":        func(s *Span) { s.Status = "Unset" },
		"StatusMessage": func(s *Span) { s.StatusMessage = "" },
		// The same number as another type is another value.
		"otel_kprobe.skb.len": func(s *Span) { s.Attributes["otel_kprobe.skb.len"] = "84" },
		"Attributes":          func(s *Span) { s.Attributes = nil },
		"Resource":            func(s *Span) { s.Resource["host.name"] = "guest" },
		"ScopeName":           func(s *Span) { s.ScopeName = "" },
		"ScopeVersion":        func(s *Span) { s.ScopeVersion = "2" },
		"Links":               func(s *Span) { s.Links[0].SpanID = "0000000000000001" },
		"Events":              func(s *Span) { s.Events[0].TimeUnixNs++ },
	}
	for field, change := range fields {
		tests = append(tests, struct {
			name        string
			want, got   []Span
			differences []string
		}{name: field, want: []Span{sample()}, got: []Span{changed(change)}, differences: []string{field}})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			differences := Compare(test.want, test.got)
			if len(differences) != len(test.differences) {
				t.Fatalf("got %d differences, want %d: %q", len(differences), len(test.differences), differences)
			}
			for i, fragment := range test.differences {
				if !strings.Contains(differences[i], fragment) {
					t.Errorf("difference %q does not say %q", differences[i], fragment)
				}
			}
		})
	}
}

func TestAsJaegerKeeps(t *testing.T) {
	sent := sample()
	got, err := AsJaegerKeeps([]Span{sent})
	if err != nil {
		t.Fatal(err)
	}
	want := changed(func(s *Span) {
		s.Attributes = map[string]any{
			"otel_kprobe.skb.len": int64(84), "list": `["a",1]`, "internal.span.format": "otlp",
		}
		s.Links[0].Attributes = map[string]any{"opentracing.ref_type": "follows_from"}
		s.Events[0].Attributes = map[string]any{}
	})
	if diff := cmp.Diff([]Span{want}, got); diff != "" {
		t.Errorf("AsJaegerKeeps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sample(), sent); diff != "" {
		t.Errorf("AsJaegerKeeps changed its argument (-before +after):\n%s", diff)
	}
}

// line is one span as otel-kprobe's file exporter and the Collector's write it.
const line = `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"otel-kprobe"}}]},` +
	`"scopeSpans":[{"scope":{"name":"otel-kprobe","version":"1"},"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c",` +
	`"spanId":"b7ad6b7169203331","parentSpanId":"00f067aa0ba902b7","name":"ip_output","kind":1,` +
	`"startTimeUnixNano":"1795403625123456789","endTimeUnixNano":"1795403625123456999",` +
	`"attributes":[{"key":"otel_kprobe.skb.len","value":{"intValue":"84"}},` +
	`{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"1"}]}}}],` +
	`"links":[{"traceId":"1af7651916cd43dd8448eb211c80319c","spanId":"c7ad6b7169203331"}],` +
	`"events":[{"name":"drop","timeUnixNano":"1795403625123456790"}],"status":{"code":2,"message":"NO_SOCKET"}}]}]}]}`

func TestReadTraces(t *testing.T) {
	tests := []struct {
		name, text string
		spans      int
		err        string
	}{
		{name: "nothing"},
		{name: "one line", text: line + "\n", spans: 1},
		{name: "two lines", text: line + "\n" + line + "\n", spans: 2},
		{name: "no end", text: line + "\n" + line, err: "line 2 has no end"},
		{name: "cut", text: line[:100] + "\n", err: "line 1: decode OTLP/JSON"},
		{name: "empty line", text: line + "\n\n", err: "line 2: decode OTLP/JSON"},
		{name: "not a trace", text: `{"data":[]}` + "\n", err: "no resourceSpans"},
		{name: "bad id", text: strings.Replace(line, "b7ad6b7169203331", "xyz", 1) + "\n", err: "line 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			traces, err := ReadTraces(strings.NewReader(test.text))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got error %v, want one that says %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := make([]Span, test.spans)
			for i := range want {
				want[i] = sample()
			}
			if differences := Compare(want, Flatten(traces)); differences != nil {
				t.Error(differences)
			}
		})
	}
}

func TestDecodeAnswer(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		spans      int
		err        string
	}{
		{name: "a trace", status: 200, body: `{"result":` + line + `}`, spans: 1},
		{name: "a stream of two", status: 200, body: `{"result":` + line + "}\n" + `{"result":` + line + `}`, spans: 2},
		{name: "nothing found", status: 200, body: `{"result":{}}`},
		{name: "no such trace", status: 404, body: `{"error":{"httpCode":404,"message":"trace not found"}}`, err: "no such trace"},
		{name: "no such page", status: 404, body: "404 page not found", err: "status 404"},
		{name: "the UI's page", status: 200, body: "<!doctype html><html>", err: "not JSON"},
		{name: "empty", status: 200, body: "", err: "not JSON"},
		{name: "cut", status: 200, body: `{"result":{`, err: "not JSON"},
		{name: "the old API", status: 200, body: `{"data":[],"total":0}`, err: "no result"},
		{name: "failure", status: 500, body: `{"error":{"message":"storage is away"}}`, err: "storage is away"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			traces, err := decodeAnswer(test.status, []byte(test.body))
			switch {
			case test.err == "" && err != nil:
				t.Fatal(err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Fatalf("got error %v, want one that says %q", err, test.err)
			case err == nil && traces.SpanCount() != test.spans:
				t.Errorf("got %d spans, want %d", traces.SpanCount(), test.spans)
			}
		})
	}
}
