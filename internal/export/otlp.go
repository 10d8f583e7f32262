package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// What an OTLP exporter does unless told otherwise.
const (
	// DefaultMaxBatchBytes keeps below the 4 MiB that a Collector accepts in
	// one message, with room for what gRPC adds.
	DefaultMaxBatchBytes = 4<<20 - 64<<10
	DefaultMaxBatchSpans = 2048
	DefaultMaxQueueSpans = 65536
	DefaultMaxQueueBytes = 32 << 20
	DefaultFlushInterval = 200 * time.Millisecond
	DefaultUploads       = 2
)

// Upload sends a message of so many spans: the content of its ResourceSpans, one
// unless the envelope is layered. It keeps nothing of resourceSpans, retries as it
// sees fit, and returns soon
// after ctx is done. A rejected number above zero is an answer of partial
// success, with err, if any, as the receiver's reason; with rejected zero an
// err means that no span arrived.
type Upload func(ctx context.Context, resourceSpans [][]byte, spans int) (rejected int64, err error)

// OTLPOptions configure an OTLP exporter; zero values mean the defaults.
type OTLPOptions struct {
	Envelope      *spans.Envelope // required: resource and scope
	Upload        Upload          // required; called from Uploads goroutines
	MaxBatchBytes int             // of one message
	MaxBatchSpans int             // of one message
	MaxQueueSpans int             // waiting for an upload
	MaxQueueBytes int             // waiting for an upload
	FlushInterval time.Duration   // how long a span waits for company
	Uploads       int             // at a time
	// Wait makes Export wait for room in the queue instead of dropping: for a
	// replay, which can, but not for a kernel, which cannot.
	Wait bool
	Log  *slog.Logger // required
}

// OTLP gathers spans into messages and uploads them. When the receiver is
// slower than the traces come, whole batches are dropped and counted.
type OTLP struct {
	p     *pipeline
	o     OTLPOptions
	front int // bytes before the spans of a batch
	max   int // bytes of spans in a message
}

// NewOTLP starts an OTLP exporter, which runs until Shutdown.
func NewOTLP(o OTLPOptions) (*OTLP, error) {
	if o.Envelope == nil || o.Upload == nil || o.Log == nil {
		return nil, errors.New("start OTLP exporter: envelope, upload and log are needed")
	}
	setDefault(&o.MaxBatchBytes, DefaultMaxBatchBytes)
	setDefault(&o.MaxBatchSpans, DefaultMaxBatchSpans)
	setDefault(&o.MaxQueueSpans, DefaultMaxQueueSpans)
	setDefault(&o.MaxQueueBytes, DefaultMaxQueueBytes)
	setDefault(&o.FlushInterval, DefaultFlushInterval)
	setDefault(&o.Uploads, DefaultUploads)
	if o.MaxBatchBytes <= o.Envelope.Overhead() {
		return nil, fmt.Errorf("start OTLP exporter: a message of %d bytes has no room beside the resource's %d: raise the limit or drop resource attributes",
			o.MaxBatchBytes, o.Envelope.Overhead())
	}
	e := &OTLP{o: o, front: len(o.Envelope.Reserve(nil)), max: o.MaxBatchBytes - o.Envelope.Overhead()}
	e.p = startPipeline(pipelineOptions{
		workers: o.Uploads, maxQueueSpans: o.MaxQueueSpans, maxQueueBytes: o.MaxQueueBytes,
		flushEvery: o.FlushInterval, wait: o.Wait, log: o.Log,
		fullMessage: "OTLP receiver is slower than the packets: spans are dropped; narrow the filter or give the receiver more",
		failMessage: "spans do not reach the OTLP receiver; check its address and that it runs",
		prepare:     o.Envelope.Reserve,
		send:        e.send,
	})
	return e, nil
}

// setDefault replaces a zero or a negative value.
func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Export appends the spans of a trace to the current message. A trace that is
// larger than a message goes out in several.
func (e *OTLP) Export(t *spans.Trace) { e.p.export(t, e.encode) }

func (e *OTLP) encode(t *spans.Trace) {
	for i := range t.Spans {
		b := e.p.current()
		before := len(b.buf)
		b.buf = spans.AppendOTLPSpan(b.buf, t, i)
		if len(b.buf)-e.front > e.max {
			b = e.carry(b, before)
			if b == nil {
				continue
			}
		}
		b.spans++
		if e.o.Envelope.Layered() {
			b.layers = append(b.layers, spans.LayerEnd{Layer: t.LayerOf(i), Offset: len(b.buf)})
		}
		if b.spans >= e.o.MaxBatchSpans {
			e.p.enqueue()
		}
	}
}

// carry moves the last span of a batch that has become too large to the next
// batch, which it returns; nil when the span alone is too large.
func (e *OTLP) carry(b *batch, before int) *batch {
	last := b.buf[before:]
	b.buf = b.buf[:before]
	if len(last) > e.max {
		e.p.stats.Failed++
		e.p.warnFail.warn(e.o.Log, "span is larger than a message and is given up; raise the message limit", 1, nil)
		return nil
	}
	kept := append([]byte(nil), last...) // enqueue may give the buffer to a worker
	e.p.enqueue()
	b = e.p.current()
	b.buf = append(b.buf, kept...)
	return b
}

// close completes the messages of a batch.
func (e *OTLP) close(b *batch) (messages [][]byte) {
	if e.o.Envelope.Layered() {
		return e.o.Envelope.CloseLayers(b.buf, b.layers)
	}
	var message []byte
	message, b.buf = e.o.Envelope.Close(b.buf)
	return [][]byte{message}
}

func (e *OTLP) send(ctx context.Context, b *batch) result {
	messages := e.close(b)
	rejected, err := e.o.Upload(ctx, messages, b.spans)
	r := result{err: err}
	for _, message := range messages {
		r.bytes += len(message)
	}
	switch {
	case rejected > 0:
		r.rejected = int(min(rejected, int64(b.spans)))
		r.exported = b.spans - r.rejected
	case err != nil:
		r.failed = b.spans
	default:
		r.exported = b.spans
	}
	return r
}

// Shutdown uploads what is left until ctx is over.
func (e *OTLP) Shutdown(ctx context.Context) error { return e.p.shutdown(ctx) }

// Stats returns the counters.
func (e *OTLP) Stats() Stats { return e.p.snapshot() }
