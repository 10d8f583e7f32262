package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// testBlockNames names device 8:0 and operation 0 alone.
type testBlockNames struct{}

func (testBlockNames) Device(dev uint32) string {
	if dev == 8<<20 {
		return "sda"
	}
	return ""
}

func (testBlockNames) Operation(op uint8) string {
	if op == 0 {
		return "read"
	}
	return ""
}

func (testBlockNames) RequestFlag(uint8) string { return "" }
func (testBlockNames) Cgroup(uint64) string     { return "" }

// requestOf is a request on 8:0 of that id and latency, with its trace.
func requestOf(id, ns uint64) (*blockio.Request, *spans.Trace) {
	r := &blockio.Request{Block: event.Block{ID: id, Device: 8 << 20, IssueMonoNs: 1000, CompleteMonoNs: 1000 + ns}}
	t := &spans.Trace{ID: [16]byte{byte(id)}, Spans: []spans.Span{
		{ID: [8]byte{byte(id), 1}, Block: &r.Block, Wait: true},
		{ID: [8]byte{byte(id), 2}, Block: &r.Block, EndUnixNs: 77},
	}}
	return r, t
}

// The exemplar is the slowest request's own span, not that of its wait; one that
// did not arrive stands until a slower one comes.
func TestLatenciesKeepExemplars(t *testing.T) {
	l := newLatencies(blockio.ByDevice, testBlockNames{})
	for id, ns := range map[uint64]uint64{1: 500, 2: 9000, 3: 700} {
		r, trace := requestOf(id, ns)
		l.observe(r, trace, true)
	}
	r, trace := requestOf(9, 20_000)
	l.observe(r, trace, false) // of no trace that one could look up
	first := l.points()
	want := &latencyExemplar{ns: 9000, traceID: [16]byte{2}, spanID: [8]byte{2, 2}, unixNs: 77}
	if len(first) != 1 || !cmp.Equal(first[0].exemplar, want, cmp.AllowUnexported(latencyExemplar{})) || first[0].histogram.Count != 4 {
		t.Fatalf("%+v, want one histogram of 4 with exemplar %+v", first, want)
	}
	if got := l.points(); got[0].exemplar != nil {
		t.Errorf("the exemplar comes twice: %+v", got[0].exemplar)
	}
	r, trace = requestOf(4, 600)
	l.observe(r, trace, true)
	l.restore(first)
	if got := l.points(); got[0].exemplar == nil || got[0].exemplar.ns != 9000 || got[0].histogram.Count != 5 {
		t.Errorf("the exemplar that did not arrive is not sent again: %+v", got[0])
	}
	r, trace = requestOf(5, 9500)
	l.observe(r, trace, true)
	l.restore(first)
	if got := l.points(); got[0].exemplar == nil || got[0].exemplar.ns != 9500 {
		t.Errorf("a faster exemplar takes the place of a slower one: %+v", got[0].exemplar)
	}
}

func TestLatencyNames(t *testing.T) {
	for _, c := range []struct {
		by         blockio.By
		block      event.Block
		name       string
		attributes []attribute.KeyValue
	}{
		{blockio.ByNone, event.Block{}, "", nil},
		{blockio.ByDevice, event.Block{Device: 8 << 20}, "device sda", []attribute.KeyValue{attribute.String("system.device", "sda")}},
		{blockio.ByDevice, event.Block{Device: 9<<20 | 3}, "device 9:3", []attribute.KeyValue{attribute.String("system.device", "9:3")}},
		{blockio.ByOperation, event.Block{}, "op read", []attribute.KeyValue{
			attribute.String("otel_kprobe.block.operation", "read"), attribute.String("disk.io.direction", "read"),
		}},
		{blockio.ByOperation, event.Block{Operation: 40}, "op op 40", []attribute.KeyValue{attribute.String("otel_kprobe.block.operation", "op 40")}},
		{blockio.ByProcess, event.Block{}, "process unknown", []attribute.KeyValue{attribute.String("thread.name", "unknown")}},
	} {
		l := newLatencies(c.by, testBlockNames{})
		key := blockio.KeyOf(c.by, &c.block)
		if got := l.name(key); got != c.name {
			t.Errorf("name %q, want %q", got, c.name)
		}
		if diff := cmp.Diff(c.attributes, l.attributes(key), cmp.Comparer(func(a, b attribute.KeyValue) bool { return a == b })); diff != "" {
			t.Errorf("%s: attributes -want +got:\n%s", c.name, diff)
		}
	}
}

// What the kernel counts are sums: an interval is the difference of two.
func TestLatenciesOfTheKernel(t *testing.T) {
	counted := &bpf.BlockHistogram{}
	count := func(ns uint64) {
		counted.Counts[blockio.Bucket(ns)]++
		counted.Count++
		counted.SumNs += ns
		counted.MaxNs = max(counted.MaxNs, ns)
	}
	l := newLatencies(blockio.ByNone, testBlockNames{})
	l.kernel = func() (map[bpf.BlockKey]*bpf.BlockHistogram, error) {
		if counted.Count == 0 {
			return nil, nil
		}
		return map[bpf.BlockKey]*bpf.BlockHistogram{{}: counted}, nil
	}
	for i, ns := range [][]uint64{nil, {1000, 2000}, {}, {4_000_000}} {
		for _, n := range ns {
			count(n)
		}
		if err := l.update(); err != nil {
			t.Fatal(err)
		}
		got := uint64(0)
		for _, g := range l.nextInterval() {
			got += g.Histogram.Count
		}
		if got != uint64(len(ns)) {
			t.Errorf("interval %d has %d latencies, want %d", i, got, len(ns))
		}
	}
	if whole := l.named(l.whole); len(whole) != 1 || whole[0].Histogram.Count != 3 {
		t.Errorf("the whole is %+v, want 3 latencies", whole)
	}
}

func TestSchedule(t *testing.T) {
	start := time.Unix(100, 0)
	s := schedule{every: time.Second, next: start.Add(time.Second)}
	for _, c := range []struct {
		after time.Duration
		due   bool
	}{{0, false}, {time.Second, true}, {1500 * time.Millisecond, false}, {2 * time.Second, true}, {9 * time.Second, true}, {9500 * time.Millisecond, false}} {
		if got := s.due(start.Add(c.after)); got != c.due {
			t.Errorf("due after %v: %v, want %v", c.after, got, c.due)
		}
	}
	if never := (schedule{}); never.due(start) {
		t.Error("a schedule of nothing is due")
	}
}
