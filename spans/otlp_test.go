package spans

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

func testEnvelope() (Resource, Scope) {
	resource := Resource{
		SchemaURL: "https://opentelemetry.io/schemas/1.43.0",
		Attrs: []ResourceAttr{ // sorted, as the SDK sorts them
			{Key: "host.id", Type: TypeString, Str: "abc"},
			{Key: "process.command_args", Type: TypeList, List: []string{"otel-kprobe", "packets", ""}},
			{Key: "service.name", Type: TypeString, Str: "otel-kprobe"},
			{Key: "x.bool", Type: TypeBool, Int: 1},
			{Key: "x.double", Type: TypeDouble, Dbl: -2.5},
			{Key: "x.int", Type: TypeInt, Int: -7},
		},
	}
	scope := Scope{
		Name: "github.com/otel-kprobe/otel-kprobe", Version: "0.1.0",
		SchemaURL: "https://opentelemetry.io/schemas/1.43.0",
	}
	return resource, scope
}

// encode makes a ResourceSpans message of a trace and decodes it with the
// official package.
func encode(t testing.TB, r Resource, s Scope, tr *Trace) *tracepb.ResourceSpans {
	t.Helper()
	env := NewEnvelope(r, s)
	body, _ := env.Close(AppendOTLP(env.Reserve(nil), tr))
	if spans := len(AppendOTLP(nil, tr)); len(body) > spans+env.Overhead() {
		t.Errorf("%d bytes of %d bytes of spans: more than the overhead of %d", len(body), spans, env.Overhead())
	}
	rs := &tracepb.ResourceSpans{}
	if err := (proto.UnmarshalOptions{}).Unmarshal(body, rs); err != nil {
		t.Fatalf("decode our bytes: %v", err)
	}
	return rs
}

// captureClient keeps what the SDK's exporter would upload.
type captureClient struct{ got []*tracepb.ResourceSpans }

func (*captureClient) Start(context.Context) error { return nil }
func (*captureClient) Stop(context.Context) error  { return nil }
func (c *captureClient) UploadTraces(_ context.Context, rs []*tracepb.ResourceSpans) error {
	c.got = append(c.got, rs...)
	return nil
}

// viaSDK gives the same spans to the SDK's exporter.
func viaSDK(t *testing.T, r Resource, s Scope, tr *Trace) *tracepb.ResourceSpans {
	t.Helper()
	var kvs []attribute.KeyValue
	for _, a := range r.Attrs {
		kvs = append(kvs, sdkResourceAttr(a))
	}
	res := resource.NewWithAttributes(r.SchemaURL, kvs...)
	var stubs tracetest.SpanStubs
	for i := range tr.Spans {
		stub := sdkSpan(tr, &tr.Spans[i])
		stub.Resource = res
		stub.InstrumentationScope = instrumentation.Scope{Name: s.Name, Version: s.Version, SchemaURL: s.SchemaURL}
		stubs = append(stubs, stub)
	}
	client := &captureClient{}
	exp, err := otlptrace.New(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if err := exp.ExportSpans(t.Context(), stubs.Snapshots()); err != nil {
		t.Fatal(err)
	}
	if len(client.got) != 1 {
		t.Fatalf("the SDK made %d ResourceSpans", len(client.got))
	}
	return client.got[0]
}

func sdkSpan(tr *Trace, s *Span) tracetest.SpanStub {
	ctx := func(tid [16]byte, sid [8]byte) trace.SpanContext {
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: sid, TraceFlags: trace.FlagsSampled})
	}
	stub := tracetest.SpanStub{
		Name: s.Name, SpanContext: ctx(tr.ID, s.ID), SpanKind: trace.SpanKindInternal,
		StartTime: time.Unix(0, int64(s.StartUnixNs)), EndTime: time.Unix(0, int64(s.EndUnixNs)),
		Attributes: sdkAttrs(tr, s.Attrs),
	}
	if state, err := trace.ParseTraceState(string(tr.Sampling.AppendTraceState(nil))); err == nil { // what is wrong with ours is missing then
		stub.SpanContext = stub.SpanContext.WithTraceState(state)
	}
	if s.Parent != ([8]byte{}) {
		stub.Parent = ctx(tr.ID, s.Parent)
	}
	if s.Error {
		stub.Status = sdktrace.Status{Code: codes.Error, Description: s.Message}
	}
	for _, e := range s.Events {
		stub.Events = append(stub.Events, sdktrace.Event{
			Name: e.Name, Time: time.Unix(0, int64(e.UnixNs)), Attributes: sdkAttrs(tr, e.Attrs),
		})
	}
	for _, l := range s.Links {
		stub.Links = append(stub.Links, sdktrace.Link{SpanContext: ctx(l.TraceID, l.SpanID), Attributes: sdkAttrs(tr, l.Attrs)})
	}
	return stub
}

func sdkAttrs(tr *Trace, attrs []Attr) (kvs []attribute.KeyValue) {
	for _, a := range attrs {
		k := a.Key.String()
		switch a.Type {
		case TypeInt:
			kvs = append(kvs, attribute.Int64(k, a.Int))
		case TypeBool:
			kvs = append(kvs, attribute.Bool(k, a.Int == 1))
		case TypeHex:
			kvs = append(kvs, attribute.String(k, fmt.Sprintf("%016x", uint64(a.Int))))
		case TypeList:
			kvs = append(kvs, attribute.StringSlice(k, tr.List(a)))
		default:
			kvs = append(kvs, attribute.String(k, a.Str))
		}
	}
	return kvs
}

func sdkResourceAttr(a ResourceAttr) attribute.KeyValue {
	switch a.Type {
	case TypeInt:
		return attribute.Int64(a.Key, a.Int)
	case TypeBool:
		return attribute.Bool(a.Key, a.Int == 1)
	case TypeDouble:
		return attribute.Float64(a.Key, a.Dbl)
	case TypeList:
		return attribute.StringSlice(a.Key, a.List)
	default:
		return attribute.String(a.Key, a.Str)
	}
}

// everyScenario calls f with each scenario's trace and with one that has what
// no scenario has.
func everyScenario(t *testing.T, f func(t *testing.T, tr *Trace)) {
	for name, scenario := range map[string]func(*fakeKernel) *testJourney{
		"ping": pingVeth, "drop": tcpDrop, "forward": forward, "unfinished": unfinished,
		"lost": lost, "entry-only": entryOnly, "empty": empty,
	} {
		t.Run(name, func(t *testing.T) {
			k := newFakeKernel()
			f(t, testBuilder(k).Build(&scenario(k).Journey))
		})
	}
	for name, r := range blockScenarios() {
		t.Run("block "+name, func(t *testing.T) { f(t, testRequestBuilder().Build(r)) })
	}
	t.Run("odd values", func(t *testing.T) { f(t, oddTrace(rand.New(rand.NewPCG(3, 4)))) })
	t.Run("sampled", func(t *testing.T) {
		k := newFakeKernel()
		tr := testBuilder(k).Build(&pingVeth(k).Journey)
		tr.Sampling = Sampling{0xfd70a3d70a3d71, 0xfe00000000000f}
		f(t, tr)
	})
}

// oddTrace has values at the limits of their encoding, events and links.
func oddTrace(r *rand.Rand) *Trace {
	tr := &Trace{ID: [16]byte{15: 1}}
	for i := range 40 {
		s := Span{
			ID: [8]byte{7: byte(i + 1)}, Name: strings.Repeat("é\"\n", r.IntN(300)),
			StartUnixNs: r.Uint64() >> 1, EndUnixNs: r.Uint64() >> 1,
		}
		if i == 0 {
			s.Name = "" // the smallest span
		} else {
			s.Parent = [8]byte{7: 1}
		}
		for n := range i {
			s.Attrs = append(s.Attrs,
				IntAttr(Key(n+1), r.Int64()>>r.IntN(64)-1), BoolAttr(KeyEntryOnly, n%2 == 0), HexAttr(KeySkb, r.Uint64()),
				StringAttr(KeyEnd, strings.Repeat("\x01", 1<<r.IntN(8))), tr.ListAttr(KeyInterfaces, "a", "", strings.Repeat("b", n*9)))
		}
		if i%3 == 1 {
			s.Error, s.Message = true, strings.Repeat("m", i%2*200)
		}
		if i%5 == 2 {
			s.Events = []SpanEvent{{Name: "e", UnixNs: 1}, {Name: strings.Repeat("e", 300), UnixNs: 2, Attrs: s.Attrs[:2]}}
			s.Links = []Link{{TraceID: tr.ID, SpanID: s.ID}, {TraceID: tr.ID, SpanID: s.ID, Attrs: s.Attrs[:3]}}
		}
		tr.Spans = append(tr.Spans, s)
	}
	return tr
}

func TestOTLPEqualsTheSDK(t *testing.T) {
	everyScenario(t, func(t *testing.T, tr *Trace) {
		r, s := testEnvelope()
		if diff := cmp.Diff(viaSDK(t, r, s, tr), encode(t, r, s, tr), protocmp.Transform()); diff != "" {
			t.Errorf("ours differs (-SDK +ours):\n%s", diff)
		}
	})
}

// The unknown fields of a message are copied when it is marshalled: so the
// bytes reach the server inside the official client's request.
func TestOTLPAsUnknownFields(t *testing.T) {
	k := newFakeKernel()
	tr := testBuilder(k).Build(&pingVeth(k).Journey)
	r, s := testEnvelope()
	env := NewEnvelope(r, s)
	body, _ := env.Close(AppendOTLP(env.Reserve(nil), tr))
	carrier := &tracepb.ResourceSpans{}
	carrier.ProtoReflect().SetUnknown(body)
	wire, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{carrier}})
	if err != nil {
		t.Fatal(err)
	}
	got := &tracepb.TracesData{}
	if err := proto.Unmarshal(wire, got); err != nil {
		t.Fatal(err)
	}
	want := &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{encode(t, r, s, tr)}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("server sees (-want +got):\n%s", diff)
	}
}

func TestJSONEqualsOTLP(t *testing.T) {
	everyScenario(t, func(t *testing.T, tr *Trace) {
		r, s := testEnvelope()
		line := NewEnvelope(r, s).AppendJSON(nil, tr)
		if n := strings.Count(string(line), "\n"); n != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("%d newlines in a line", n)
		}
		got := decodeOTLPJSON(t, line)
		want := &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{encode(t, r, s, tr)}}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("JSON differs (-protobuf +JSON):\n%s", diff)
		}
	})
}

// decodeOTLPJSON decodes OTLP/JSON: protobuf's JSON mapping, but for ids in
// hexadecimal.
func decodeOTLPJSON(t testing.TB, line []byte) *tracepb.TracesData {
	t.Helper()
	var tree any
	if err := json.Unmarshal(line, &tree); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, line)
	}
	hexToBase64(t, tree)
	plain, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	td := &tracepb.TracesData{}
	if err := protojson.Unmarshal(plain, td); err != nil {
		t.Fatalf("not OTLP/JSON: %v", err)
	}
	return td
}

func hexToBase64(t testing.TB, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			hexToBase64(t, e)
		}
	case map[string]any:
		for k, e := range v {
			if id, ok := e.(string); ok && (k == "traceId" || k == "spanId" || k == "parentSpanId") {
				b, err := hex.DecodeString(id)
				if err != nil {
					t.Fatalf("%s %q: %v", k, id, err)
				}
				v[k] = base64.StdEncoding.EncodeToString(b)
				continue
			}
			hexToBase64(t, e)
		}
	}
}

func FuzzEncoders(f *testing.F) {
	f.Add("ip_rcv", "eth0", int64(-1), uint64(1), uint16(3))
	f.Add("\xff\xfe", "\u2028\x00\"\\\x7f", int64(1)<<62, ^uint64(0), uint16(20000))
	f.Fuzz(func(t *testing.T, name, value string, n int64, unixNs uint64, repeat uint16) {
		tr := &Trace{ID: [16]byte{1}, Spans: []Span{{
			ID: [8]byte{1}, Name: strings.ToValidUTF8(name, "?"), StartUnixNs: unixNs, EndUnixNs: unixNs + 1,
			Error: n%2 == 0, Message: strings.ToValidUTF8(value, "?"),
		}}}
		s := &tr.Spans[0]
		s.Attrs = []Attr{
			StringAttr(KeyThreadName, strings.Repeat(strings.ToValidUTF8(value, "?"), int(repeat)%300)),
			IntAttr(KeySkbLen, n), HexAttr(KeySkb, unixNs), tr.ListAttr(KeyInterfaces, strings.ToValidUTF8(name, "?")),
		}
		r := Resource{Attrs: []ResourceAttr{{Key: name, Type: TypeString, Str: value}}}
		rs := encode(t, r, Scope{Name: value}, tr)
		if got := rs.ScopeSpans[0].Spans[0].Name; got != s.Name {
			t.Errorf("name %q became %q", s.Name, got)
		}
		want := &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{rs}}
		got := decodeOTLPJSON(t, NewEnvelope(r, Scope{Name: value}).AppendJSON(nil, tr))
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("JSON differs (-protobuf +JSON):\n%s", diff)
		}
	})
}

func FuzzJSONString(f *testing.F) {
	f.Add("plain")
	f.Add("\xc3\x28 \u2028 \"\\/\b\f\n\r\t\x00\x1f\x7f \xed\xa0\x80 😀")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendJSONString(nil, s), &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		want := string([]rune(s)) // each invalid byte becomes U+FFFD
		if got != want {
			t.Errorf("%q became %q", want, got)
		}
	})
}
