package export

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

func TestRuleText(t *testing.T) {
	of := func(rule string, more ...spans.Attr) *spans.Trace {
		attrs := append([]spans.Attr{spans.StringAttr(spans.KeyNetfilterRule, rule)}, more...)
		return &spans.Trace{Spans: []spans.Span{{Attrs: attrs}}}
	}
	place := []spans.Attr{
		spans.StringAttr(spans.KeyNetfilterFamily, "inet"), spans.StringAttr(spans.KeyNetfilterTable, "filter"),
		spans.StringAttr(spans.KeyNetfilterChain, "input"),
	}
	for _, tt := range []struct {
		trace *spans.Trace
		want  string
	}{
		{&spans.Trace{Spans: []spans.Span{{}}}, ""},
		{of("7", place...), "rule 7 of inet filter input"},
		{of("policy", place...), "the policy of inet filter input"},
		{of("unknown", place[:2]...), "a rule or the policy of inet filter"},
	} {
		if got := ruleText(tt.trace); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
