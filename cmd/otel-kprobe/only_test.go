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
