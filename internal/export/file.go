package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// What a File does unless told otherwise.
const (
	DefaultFileBuffer   = 512 << 10
	DefaultFileInterval = time.Second
)

// FileOptions configure a File; zero values mean the defaults.
type FileOptions struct {
	Envelope      *spans.Envelope // required: resource and scope
	BufferBytes   int             // of one write
	MaxQueueBytes int             // waiting to be written
	FlushInterval time.Duration   // how long a trace waits to be written
	// Wait makes Export wait for the disk instead of dropping: for a replay.
	Wait bool
	Log  *slog.Logger // required
}

// File writes traces as lines of OTLP/JSON, which Jaeger's page and the
// Collector's otlpjsonfile receiver read. When the disk is slower than the
// traces come, whole writes are dropped and counted. When it is full, what does not
// fit is lost and counted, and the file ends with a whole line.
type File struct {
	p *pipeline
	o FileOptions
	// encoder is used by encode alone, which the pipeline calls one at a time.
	encoder *spans.JSONEncoder
	w       io.Writer
	broken  bool // the last line in the file is not whole
	first   error
}

// NewFile starts a File that writes to w, which Shutdown does not close.
func NewFile(w io.Writer, o FileOptions) (*File, error) {
	if o.Envelope == nil || o.Log == nil {
		return nil, errors.New("start file exporter: envelope and log are needed")
	}
	setDefault(&o.BufferBytes, DefaultFileBuffer)
	setDefault(&o.MaxQueueBytes, DefaultMaxQueueBytes)
	setDefault(&o.FlushInterval, DefaultFileInterval)
	f := &File{o: o, w: w, encoder: spans.NewJSONEncoder(o.Envelope)}
	f.p = startPipeline(pipelineOptions{
		workers: 1, maxQueueSpans: int(^uint(0) >> 1), maxQueueBytes: o.MaxQueueBytes,
		flushEvery: o.FlushInterval, wait: o.Wait, log: o.Log,
		fullMessage: "file is written slower than the packets come: spans are dropped; narrow the filter or use a faster disk",
		failMessage: "spans cannot be written to the file; check the space on its disk",
		prepare:     f.prepare,
		send:        f.send,
	})
	return f, nil
}

// prepare gives a batch the memory that it will fill, and of its last line what is
// beyond: growing to that size would copy it twice.
func (f *File) prepare(buf []byte) []byte {
	if buf == nil {
		buf = make([]byte, 0, f.o.BufferBytes+f.o.BufferBytes/16)
	}
	return buf[:0]
}

// Export appends a line to the buffer.
func (f *File) Export(t *spans.Trace) { f.p.export(t, f.encode) }

func (f *File) encode(t *spans.Trace) {
	b := f.p.current()
	b.buf = f.encoder.Append(b.buf, t)
	b.spans += len(t.Spans)
	b.traces = append(b.traces, traceEnd{len(b.buf), len(t.Spans)})
	if len(b.buf) >= f.o.BufferBytes {
		f.p.enqueue()
	}
}

// cutter is a writer that can be made shorter: a file, but no pipe.
type cutter interface {
	io.Seeker
	Truncate(size int64) error
}

// send writes a batch; there is one at a time. After a failure it tries again
// with the next one: a full disk may get room.
func (f *File) send(ctx context.Context, b *batch) result {
	if err := ctx.Err(); err != nil {
		return result{failed: b.spans, err: err}
	}
	if f.broken {
		if _, err := f.w.Write([]byte{'\n'}); err != nil {
			return result{failed: b.spans, err: f.keep(err)}
		}
		f.broken = false
	}
	n, err := f.w.Write(b.buf)
	if err == nil && n < len(b.buf) {
		err = io.ErrShortWrite
	}
	r := result{err: f.keep(err)}
	whole := 0
	for _, t := range b.traces {
		if t.offset <= n {
			r.exported += t.spans
			whole = t.offset
		}
	}
	r.failed = b.spans - r.exported
	if n > whole && f.cut(n-whole) {
		n = whole
	}
	r.bytes, f.broken = n, n > whole
	return r
}

// cut takes the last bytes, of a line that is not whole, off the file, and says
// whether it could.
func (f *File) cut(bytes int) bool {
	file, ok := f.w.(cutter)
	if !ok {
		return false
	}
	end, err := file.Seek(0, io.SeekCurrent)
	if err != nil || file.Truncate(end-int64(bytes)) != nil {
		return false
	}
	_, err = file.Seek(-int64(bytes), io.SeekCurrent)
	return err == nil
}

// keep remembers the first error for Shutdown.
func (f *File) keep(err error) error {
	if f.first == nil {
		f.first = err
	}
	return err
}

// Shutdown writes what is left until ctx is over and asks the disk to keep it.
// Its error is the first of any write.
func (f *File) Shutdown(ctx context.Context) error {
	if err := f.p.shutdown(ctx); err != nil {
		return err // a write may still be going on
	}
	if f.first != nil {
		return fmt.Errorf("write spans to the file, %d lost: %w", f.Stats().Lost(), f.first)
	}
	s, ok := f.w.(interface{ Sync() error })
	if !ok {
		return nil
	}
	// A pipe and a terminal cannot be synced.
	if err := s.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("sync the file of spans: %w", err)
	}
	return nil
}

// Stats returns the counters.
func (f *File) Stats() Stats { return f.p.snapshot() }
