package correlate

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// The TCP option of OpenTelemetry eBPF Instrumentation: kind, length, trace id (16
// bytes), span id (8), and no flags; struct tp_option of
// https://github.com/open-telemetry/opentelemetry-ebpf-instrumentation/blob/01c6bb7461a05ff4e086362cd2464188f5464b10/bpf/tpinjector/tpinjector.c.
// Of a longer one, which nobody writes yet, the same members are read.
const (
	optionEnd     = 0 // RFC 9293, section 3.2
	optionNothing = 1
	optionContext = 25
	optionBytes   = 2 + 16 + 8
)

// findOption gives the span that the options of a TCP header name.
func findOption(b []byte) (ctx event.AppContext, ok bool) {
	for len(b) > 0 && b[0] != optionEnd {
		if b[0] == optionNothing {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return ctx, false
		}
		if b[0] == optionContext && b[1] >= optionBytes {
			copy(ctx.TraceID[:], b[2:18])
			copy(ctx.SpanID[:], b[18:optionBytes])
			return ctx, ctx.Valid()
		}
		b = b[b[1]:]
	}
	return ctx, false
}
