package spans

import (
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// BlockOptions configure a RequestBuilder.
type BlockOptions struct {
	Names BlockNames
	Clock Clock
	// Seed is as in Options; the same one keeps the ids of packets and requests
	// apart all the same.
	Seed [16]byte
	// RawAddresses writes kernel addresses as they are instead of hashed.
	RawAddresses bool
	// StatusBefore610 says that the kernel numbers its blk_status_t as before
	// Linux 6.10. The numbers are in no BTF.
	StatusBefore610 bool
	// NoApps leaves the spans of applications away.
	NoApps bool
	// SampleThreshold is that of the requests' randomness; 0: they were not sampled.
	SampleThreshold uint64
}

// blockIDs separates the ids of requests from those of journeys, which count
// from the same number. Random bits.
const blockIDs = 0x6a09e667f3bcc908

// maxBlockEvents is how many events of one kind a span may have.
const maxBlockEvents = 64

// RequestBuilder turns block requests into traces. It is not safe for
// concurrent use.
type RequestBuilder struct {
	apps
	clock  Clock
	raw    bool
	sample uint64 // BlockOptions.SampleThreshold
	ids    ids
	names  blockNameCache
	trace  Trace
	base   uint64        // of the span ids of this trace
	attrs  []Attr        // what Attrs are cut from
	events []SpanEvent   // what the spans' Events are cut from
	links  []Link        // the root's
	blocks []event.Block // what the spans' Block points to
}

// NewRequestBuilder makes a RequestBuilder. Names and Clock must be set.
func NewRequestBuilder(o BlockOptions) *RequestBuilder {
	return &RequestBuilder{
		clock: o.Clock, raw: o.RawAddresses, sample: o.SampleThreshold, ids: newIDs(o.Seed), names: newBlockNameCache(o),
		apps: newApps(o.NoApps),
	}
}

// Build makes the trace of a request, or bio, and of all that it caused: pure
// but for the answers of Names and Clock. The Trace is reused by the next Build;
// r is only read.
func (b *RequestBuilder) Build(r *blockio.Request) *Trace {
	t := &b.trace
	start, end := blockBounds(r)
	*t = Trace{
		Spans: t.Spans[:0], Facts: t.Facts[:0], Ends: t.Ends[:0], strings: t.strings[:0],
		Block: true, First: -1, Last: -1, DropSpan: -1,
		EnterMonoNs: start, ExitMonoNs: end, OffsetNs: b.clock.OffsetNs(start),
		End: blockEnd(r), Unfinished: r.Unfinished, Incomplete: blockIncomplete(r),
		Sampling: samplingOfBlock(b.sample, &r.Block),
	}
	b.attrs, b.events, b.blocks = b.attrs[:0], b.events[:0], b.blocks[:0]
	t.ID, b.base = b.ids.trace(r.ID ^ blockIDs)
	b.findApps(r)
	b.appendRequest(r, -1)
	b.appLinks()
	return t
}

// blockBounds returns when a request's span begins and ends. What was under way
// when the program began has no beginning that was seen, then it is the first
// step that was.
func blockBounds(r *blockio.Request) (startNs, endNs uint64) {
	startNs, endNs = r.StartMonoNs(), r.CompleteMonoNs
	if startNs == 0 {
		startNs = r.InsertMonoNs
	}
	if startNs == 0 {
		startNs = endNs
	}
	return startNs, max(startNs, endNs)
}

// queuedMonoNs returns when a request began to wait for its issue, 0 when it
// did not wait or that is not known.
func queuedMonoNs(r *event.Block) uint64 {
	from := r.SubmitMonoNs
	if from == 0 || r.InsertMonoNs != 0 && r.InsertMonoNs < from {
		from = r.InsertMonoNs
	}
	if from >= r.IssueMonoNs {
		return 0
	}
	return from
}

// blockIncomplete says that something of a request was not seen: what caused it,
// or how it began.
func blockIncomplete(r *blockio.Request) bool { return r.Orphan || r.StartMonoNs() == 0 }

func blockEnd(r *blockio.Request) string {
	if r.Unfinished {
		return "unfinished"
	}
	return "complete"
}

// appendRequest appends the span of a request and those below it. The parent is
// an index in Spans, -1 for the root.
func (b *RequestBuilder) appendRequest(r *blockio.Request, parent int32) {
	t := &b.trace
	index := int32(len(t.Spans))
	b.blocks = append(b.blocks, r.Block)
	t.Spans = append(t.Spans, b.span(parent, &b.blocks[len(b.blocks)-1]))
	s := &t.Spans[index]
	s.Name = b.names.operation(r.Op()).root
	s.EnterMonoNs, s.ExitMonoNs = blockBounds(r)
	s.StartUnixNs, s.EndUnixNs = t.unix(s.EnterMonoNs), t.unix(s.ExitMonoNs)
	if parent < 0 {
		s.EndUnixNs = max(s.EndUnixNs, s.StartUnixNs+1)
	} else {
		s.StartUnixNs, s.EndUnixNs = within(s.StartUnixNs, s.EndUnixNs, t.Spans[parent].EndUnixNs)
	}
	s.Incomplete = r.Unfinished
	failed := &r.Block
	if parent < 0 {
		failed = firstFailure(r)
	}
	if failed != nil && failed.Status != 0 {
		s.Error, s.Message = true, b.names.failure(failed).message
	}
	b.requestEvents(r, s)
	b.requestAttrs(r, s, failed)
	if from := queuedMonoNs(&r.Block); from != 0 {
		b.appendWait(index, from)
	}
	for _, c := range r.Children {
		b.appendRequest(c, index)
	}
}

// span begins the next span.
func (b *RequestBuilder) span(parent int32, block *event.Block) Span {
	t := &b.trace
	s := Span{ID: spanID(b.base, len(t.Spans)), Facts: -1, ParentIndex: parent, Block: block}
	if parent >= 0 {
		s.Parent, s.Depth = t.Spans[parent].ID, t.Spans[parent].Depth+1
	}
	return s
}

// appendWait appends the time before the issue of a request. It lies before its
// parent on purpose: the request's own duration is that of the device.
func (b *RequestBuilder) appendWait(parent int32, fromNs uint64) {
	t := &b.trace
	r := t.Spans[parent].Block
	s := b.span(parent, r)
	s.Wait, s.Name = true, "queue"
	s.EnterMonoNs, s.ExitMonoNs = fromNs, r.IssueMonoNs
	s.StartUnixNs, s.EndUnixNs = t.unix(fromNs), t.unix(r.IssueMonoNs)
	from := len(b.attrs)
	b.add(IntAttr(KeyDurationNs, int64(r.IssueMonoNs-fromNs)))
	if r.InsertMonoNs != 0 && r.InsertMonoNs <= r.IssueMonoNs {
		b.add(IntAttr(KeyBlockSchedulerDurationNs, int64(r.IssueMonoNs-r.InsertMonoNs)))
	}
	s.Attrs = b.cut(from)
	t.Spans = append(t.Spans, s)
}

// firstFailure returns the first of a request and those below it that failed, in
// the order of their spans, nil when none did.
func firstFailure(r *blockio.Request) *event.Block {
	if r.Status != 0 {
		return &r.Block
	}
	for _, c := range r.Children {
		if f := firstFailure(c); f != nil {
			return f
		}
	}
	return nil
}

func (b *RequestBuilder) add(a Attr) { b.attrs = append(b.attrs, a) }

// cut returns the attributes that were added since from.
func (b *RequestBuilder) cut(from int) []Attr { return b.attrs[from:len(b.attrs):len(b.attrs)] }
