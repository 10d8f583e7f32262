package correlate

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// traceparentBytes is the length of a traceparent of version 00, and of what a later
// version begins with.
const traceparentBytes = 55

// parseTraceparent reads the value of a traceparent as
// https://www.w3.org/TR/trace-context/#traceparent-header and #versioning-of-traceparent
// there demand it: version 00 has no more than its four fields, of later ones what
// version 00 has is read, and version ff is none.
func parseTraceparent(b []byte) (ctx event.AppContext, flags event.AppFlags, ok bool) {
	if len(b) < traceparentBytes || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return ctx, 0, false
	}
	var version, traceFlags [1]byte
	if !unhex(version[:], b[0:2]) || !unhex(ctx.TraceID[:], b[3:35]) ||
		!unhex(ctx.SpanID[:], b[36:52]) || !unhex(traceFlags[:], b[53:55]) {
		return ctx, 0, false
	}
	switch {
	case version[0] == 0xff, !ctx.Valid():
		return ctx, 0, false
	case len(b) > traceparentBytes && (version[0] == 0 || b[traceparentBytes] != '-'):
		return ctx, 0, false
	}
	if traceFlags[0]&1 == 0 {
		flags = event.AppUnsampled
	}
	return ctx, flags, true
}

// unhex decodes lower-case hexadecimal digits, the only ones that are permitted.
func unhex(dst, src []byte) bool {
	for i := range dst {
		high, ok := digit(src[2*i])
		low, ok2 := digit(src[2*i+1])
		if !ok || !ok2 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func digit(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10, true
	}
	return 0, false
}
