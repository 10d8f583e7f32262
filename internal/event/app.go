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

// The sources.
const (
	// AppThread: the map traces_ctx_v1, in which instrumentation publishes the span
	// that each thread is in.
	AppThread AppSource = 1
)

// String returns the source's word in docs/spans.md, "" for an unknown one.
func (s AppSource) String() string {
	if s == AppThread {
		return "thread"
	}
	return ""
}
