package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

func TestParseOnly(t *testing.T) {
	for _, c := range []struct {
		rules []string
		want  onlyRules
		err   string
	}{
		{nil, onlyRules{}, ""},
		{[]string{"drops"}, onlyRules{drops: true}, ""},
		{[]string{"correlated"}, onlyRules{correlated: true}, ""},
		{[]string{"errors", "slow=1.5ms"}, onlyRules{errors: true, slow: true, slowNs: 1_500_000}, ""},
		{[]string{"drop"}, onlyRules{}, `read --only: "drop" is none of drops, errors, slow=TIME, correlated`},
		{[]string{"slow"}, onlyRules{}, `read --only: "slow" is none of drops, errors, slow=TIME, correlated`},
		{[]string{"slow=5"}, onlyRules{}, `read --only: "slow=5" is no time above 0 that a trace could take; write slow=1ms`},
		{[]string{"slow=-1s"}, onlyRules{}, `read --only: "slow=-1s" is no time above 0 that a trace could take; write slow=1ms`},
	} {
		got, err := parseOnly(c.rules)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: %v, want %q", c.rules, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want || got.any() != (len(c.rules) > 0) {
			t.Errorf("%q: %+v, %v, want %+v", c.rules, got, err, c.want)
		}
	}
}

func TestOnlyWants(t *testing.T) {
	trace := func(ns uint64, failed bool, dropSpan int32) *spans.Trace {
		return &spans.Trace{DropSpan: dropSpan, Spans: []spans.Span{{EnterMonoNs: 100, ExitMonoNs: 100 + ns, Error: failed}}}
	}
	plain, slow := trace(10, false, -1), trace(1000, false, -1)
	died, oneCopy := trace(10, true, 0), trace(10, false, 0)
	known := trace(10, false, -1)
	known.Correlated = true
	for _, c := range []struct {
		name  string
		rules onlyRules
		want  []bool // plain, slow, died, oneCopy, known, none
	}{
		{"no rule", onlyRules{}, []bool{true, true, true, true, true, true}},
		{"drops", onlyRules{drops: true}, []bool{false, false, true, true, false, false}},
		{"errors", onlyRules{errors: true}, []bool{false, false, true, false, false, false}},
		{"slow", onlyRules{slow: true, slowNs: 1000}, []bool{false, true, false, false, false, false}},
		{"correlated", onlyRules{correlated: true}, []bool{false, false, false, false, true, false}},
		{"slow or dropped", onlyRules{drops: true, slow: true, slowNs: 1000}, []bool{false, true, true, true, false, false}},
	} {
		var got []bool
		for _, trace := range []*spans.Trace{plain, slow, died, oneCopy, known, {DropSpan: -1}} {
			got = append(got, c.rules.want(trace))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.name, diff)
		}
	}
}

// TestChooser expects traces that only their packets correlate to be bounded, and
// others, and what another rule wants, not.
func TestChooser(t *testing.T) {
	trace := func(byWire, failed bool) *spans.Trace {
		return &spans.Trace{
			DropSpan: -1, ExitMonoNs: 5_000_000_000, Correlated: true, CorrelatedByWire: byWire,
			Spans: []spans.Span{{Error: failed}, {}, {Wait: true}}, Waits: 1,
		}
	}
	c := newChooser(onlyRules{correlated: true, errors: true})
	kept := func(of *spans.Trace) (n int) {
		for range spans.WireTracesPerSecond + 10 {
			if c.choose(of) {
				n++
			}
		}
		return n
	}
	const all = spans.WireTracesPerSecond + 10
	for _, step := range []struct {
		name string
		of   *spans.Trace
		want int
	}{
		{"failed, and only by the wire", trace(true, true), all},
		{"only by the wire", trace(true, false), spans.WireTracesPerSecond},
		{"by the host", trace(false, false), all},
		{"only by the wire, in the same second", trace(true, false), 0},
	} {
		if got := kept(step.of); got != step.want {
			t.Errorf("%s: %d of %d are kept, want %d", step.name, got, all, step.want)
		}
	}
	plain := trace(true, false)
	plain.Correlated, plain.CorrelatedByWire = false, false
	if c.choose(plain) {
		t.Error("one that nothing correlates is kept")
	}
	block := trace(true, false)
	block.Block = true
	c.choose(block)
	const wire, passed = 10 + all + 1, 10 + all + 2
	if c.wirePassedOver != wire || c.passedOver != passed || c.framesPassedOver != passed-1 {
		t.Errorf("%d passed over with %d frames, %d of them correlated by the wire; want %d, %d and %d",
			c.passedOver, c.framesPassedOver, c.wirePassedOver, passed, passed-1, wire)
	}
	none := newChooser(onlyRules{})
	if !none.choose(trace(true, false)) || none.wirePassedOver != 0 {
		t.Error("without rules something is passed over")
	}
}

// What is passed over is counted, and is no loss.
func TestReplayOnly(t *testing.T) {
	all := command(t, "replay", "--only", "slow=1ns", recordPing)
	if all.Status != exitOK || all.Stderr != summaryTo("console") {
		t.Errorf("every packet takes longer than a nanosecond: %+v", all)
	}
	none := command(t, "replay", "--only", "errors,slow=1h", recordPing)
	want := outcome{Status: exitOK, Stderr: "131 frames, 0 traces (4 passed over), 0 spans; exported 0 to console; nothing lost\n"}
	if diff := cmp.Diff(want, none); diff != "" {
		t.Error(diff)
	}
}
