package otelkprobe_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

// TestStatement expects the bytes of the ids in the order of memory.
func TestStatement(t *testing.T) {
	config := trace.SpanContextConfig{
		TraceID:    trace.TraceID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		SpanID:     trace.SpanID{16, 17, 18, 19, 20, 21, 22, 23},
		TraceFlags: trace.FlagsSampled,
	}
	span := trace.NewSpanContext(config)
	parentConfig := config
	parentConfig.SpanID = trace.SpanID{32, 33, 34, 35, 36, 37, 38, 39}
	parent := trace.NewSpanContext(parentConfig)
	of := func(what, parent uint64) []uint64 {
		return []uint64{what, 0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x1716151413121110, parent}
	}
	for _, test := range []struct {
		name         string
		what         uint64
		span, parent trace.SpanContext
		want         []uint64
	}{
		{"root starts", otelkprobe.WhatStarts, span, trace.SpanContext{}, of(1, 0)},
		{"child ends", otelkprobe.WhatEnds, span, parent, of(2, 0x2726252423222120)},
		{"child of a remote span ends", otelkprobe.WhatEnds, span, parent.WithRemote(true), of(2, 0)},
		{"unsampled", otelkprobe.WhatStarts, span.WithTraceFlags(0), trace.SpanContext{}, of(1+256, 0)},
		{"socket", otelkprobe.WhatBinds, span, trace.SpanContext{}, of(3, 0)},
		{"no trace id", otelkprobe.WhatBinds, span.WithTraceID(trace.TraceID{}), trace.SpanContext{}, nil},
		{"no span id", otelkprobe.WhatStarts, span.WithSpanID(trace.SpanID{}), parent, nil},
		{"none", otelkprobe.WhatEnds, trace.SpanContext{}, trace.SpanContext{}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, otelkprobe.Statement(test.what, test.span, test.parent)); diff != "" {
				t.Errorf("statement (-want +got):\n%s", diff)
			}
		})
	}
}
