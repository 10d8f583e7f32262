package export

import (
	"context"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// Exporter carries traces out of the program.
type Exporter interface {
	// Export takes over a trace: it keeps nothing of t after it returned, and
	// it does not wait for the receiver. Calls must not overlap.
	Export(t *spans.Trace)
	// Shutdown writes out what is still held, as long as ctx lasts, and
	// releases everything. Nothing may be exported afterwards. The error says
	// what was lost in it, or why the last words could not be written.
	Shutdown(ctx context.Context) error
	// Stats returns the counters; any goroutine may ask at any time.
	Stats() Stats
}

// Stats counts what became of traces and spans. After Shutdown,
// Spans = Exported + Lost().
type Stats struct {
	Traces   uint64 // given to Export
	Spans    uint64 // given to Export
	Exported uint64 // spans that the receiver accepted, or that were written
	Dropped  uint64 // spans given up because the queue was full
	Rejected uint64 // spans that the receiver refused in an answer of partial success
	// Failed are spans in uploads or writes that failed, or that did not fit one
	// message. An upload whose answer came too late is one of them, though its
	// receiver may have the spans.
	Failed  uint64
	Unsent  uint64 // spans left when Shutdown's time was over
	Batches uint64 // uploads or writes tried
	Bytes   uint64 // encoded bytes in them
}

// Lost is the number of spans that were given up, for whatever reason.
func (s Stats) Lost() uint64 { return s.Dropped + s.Rejected + s.Failed + s.Unsent }
