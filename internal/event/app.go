package event

// AppContext names a span of an application. The zero value is none.
type AppContext struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// Valid says whether it names a span: W3C trace context permits neither id to be
// all zero (https://www.w3.org/TR/trace-context/#trace-id).
func (c AppContext) Valid() bool { return c.TraceID != [16]byte{} && c.SpanID != [8]byte{} }

// AppSource says who told which span of an application something belongs to.
type AppSource uint8

// The sources: enum app_source of bpf/app_context.h. The lower number is believed
// more where two disagree, but for AppThread, which is believed as AppHelper is.
const (
	// AppThread: the map traces_ctx_v1, in which instrumentation publishes the span
	// that each thread is in.
	AppThread AppSource = 1
	// AppHelper: the application itself, by the package otelkprobe.
	AppHelper AppSource = 2
	// AppPayload: a W3C traceparent in the bytes of a request.
	AppPayload AppSource = 3
	// AppTCPOption: the TCP option by which OpenTelemetry eBPF Instrumentation
	// passes a span on.
	AppTCPOption AppSource = 4
)

// OfWire says whether the source is what came over a network: nobody vouches for it.
func (s AppSource) OfWire() bool { return s == AppPayload || s == AppTCPOption }

// String returns the source's word in docs/spans.md, "" for an unknown one.
func (s AppSource) String() string {
	switch s {
	case AppThread:
		return "thread"
	case AppHelper:
		return "helper"
	case AppPayload:
		return "payload"
	case AppTCPOption:
		return "tcp_option"
	}
	return ""
}

// AppFlags are properties of a span of an application.
type AppFlags uint8

// AppUnsampled marks a span that its application does not export: the sampled flag
// of its trace context is 0. A source that does not tell is taken for sampled.
const AppUnsampled AppFlags = 1 << 0
