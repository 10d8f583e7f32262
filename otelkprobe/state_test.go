package otelkprobe_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/otel-kprobe/otel-kprobe/otelkprobe"
)

// TestState expects the bytes of the ids in the order of memory.
func TestState(t *testing.T) {
	config := trace.SpanContextConfig{
		TraceID:    trace.TraceID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		SpanID:     trace.SpanID{16, 17, 18, 19, 20, 21, 22, 23},
		TraceFlags: trace.FlagsSampled,
	}
	span := trace.NewSpanContext(config)
	parentConfig := config
	parentConfig.SpanID = trace.SpanID{32, 33, 34, 35, 36, 37, 38, 39}
	parent := trace.NewSpanContext(parentConfig)
	const parentID = 0x2726252423222120
	type args struct{ What, TraceHigh, TraceLow, Span, Parent, FD uint64 }
	of := func(what, parent, fd uint64) []args {
		return []args{{what, 0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x1716151413121110, parent, fd}}
	}
	for _, test := range []struct {
		name         string
		what         uint64
		span, parent trace.SpanContext
		fd           uintptr
		want         []args
	}{
		{"root starts", otelkprobe.WhatStarts, span, trace.SpanContext{}, 0, of(1, 0, 0)},
		{"child ends", otelkprobe.WhatEnds, span, parent, 0, of(2, parentID, 0)},
		{"child of a remote span ends", otelkprobe.WhatEnds, span, parent.WithRemote(true), 0, of(2, 0, 0)},
		{"unsampled", otelkprobe.WhatStarts, span.WithTraceFlags(0), trace.SpanContext{}, 0, of(1+256, 0, 0)},
		{"socket", otelkprobe.WhatBinds, span, trace.SpanContext{}, 7, of(3, 0, 7)},
		{"no trace id", otelkprobe.WhatBinds, span.WithTraceID(trace.TraceID{}), trace.SpanContext{}, 7, nil},
		{"no span id", otelkprobe.WhatStarts, span.WithSpanID(trace.SpanID{}), parent, 0, nil},
		{"none", otelkprobe.WhatEnds, trace.SpanContext{}, trace.SpanContext{}, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []args
			otelkprobe.StateTo(func(what, traceHigh, traceLow, span, parent, fd uint64) {
				got = append(got, args{what, traceHigh, traceLow, span, parent, fd})
			}, test.what, test.span, test.parent, test.fd)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("arguments of the note (-want +got):\n%s", diff)
			}
		})
	}
	var id [8]byte
	binary.LittleEndian.PutUint64(id[:], of(0, 0, 0)[0].Span)
	if id != span.SpanID() {
		t.Errorf("stored, the span's id is %x, want %x", id, span.SpanID())
	}
}
