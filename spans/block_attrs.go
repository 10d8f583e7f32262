package spans

import (
	"math/bits"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// sectorNone is the sector that the kernel gives to a command without one.
const sectorNone = ^uint64(0)

// requestAttrs gives the span of a request or bio its attributes, the
// identifying ones first. failed is what made it fail: itself, one below it, or
// nothing (nil, or without a Status).
func (b *RequestBuilder) requestAttrs(r *blockio.Request, s *Span, failed *event.Block) {
	from := len(b.attrs)
	b.deviceAttrs(&r.Block)
	b.extentAttrs(r)
	if p := b.names.priority(r.IOPriority); p != "" {
		b.add(StringAttr(KeyBlockPriority, p))
	}
	if s.Error {
		b.add(StringAttr(KeyErrorType, b.names.failure(failed).name))
	}
	if r.Status != 0 {
		b.add(StringAttr(KeyBlockStatus, b.names.failure(&r.Block).text))
	}
	b.add(StringAttr(KeyEnd, blockEnd(r)))
	b.countAttrs(r)
	b.submitterAttrs(&r.Block)
	if s.ParentIndex < 0 {
		b.appAttrs()
	}
	b.add(HexAttr(KeyBlockAddress, b.address(r.Address)))
	b.add(HexAttr(KeyBlockID, r.ID))
	b.blockTimeAttrs(r, s)
	if blockIncomplete(r) {
		b.add(BoolAttr(KeyIncomplete, true))
	}
	s.Attrs = b.cut(from)
}

// deviceAttrs adds the device and what was asked of it.
func (b *RequestBuilder) deviceAttrs(r *event.Block) {
	op := b.names.operation(r.Op())
	b.add(StringAttr(KeySystemDevice, b.names.device(r.Device)))
	if r.Partition != 0 {
		b.add(StringAttr(KeyBlockPartition, b.names.device(r.Partition)))
	}
	if op.direction != "" {
		b.add(StringAttr(KeyDiskIODirection, op.direction))
	}
	b.add(StringAttr(KeyBlockOperation, op.name))
	t := &b.trace
	at := len(t.strings)
	for flags := r.Operation &^ 0xff; flags != 0; flags &= flags - 1 { // from the lowest bit on
		t.strings = append(t.strings, b.names.flag(bits.TrailingZeros32(flags)))
	}
	if n := len(t.strings) - at; n > 0 {
		b.add(listAttr(KeyBlockFlags, at, n))
	}
}

// extentAttrs adds where on the device and how much.
func (b *RequestBuilder) extentAttrs(r *blockio.Request) {
	if !b.names.operation(r.Op()).flush && r.Sector != sectorNone {
		b.add(IntAttr(KeyBlockSector, int64(r.Sector)))
	}
	b.add(IntAttr(KeyBlockBytes, int64(r.Bytes)))
	if !r.Unfinished && (r.Done != r.Bytes || r.Status != 0) {
		b.add(IntAttr(KeyBlockBytesDone, int64(r.Done)))
	}
}

// countAttrs adds what the request is made of and how often it was tried.
func (b *RequestBuilder) countAttrs(r *blockio.Request) {
	level := "request"
	if r.Bio {
		level = "bio"
	}
	b.add(StringAttr(KeyBlockLevel, level))
	if r.Bios != 1 {
		b.add(IntAttr(KeyBlockBios, int64(r.Bios)))
	}
	if n := len(r.Merges) - maxBlockEvents; n > 0 {
		b.add(IntAttr(KeyBlockMergesLeftOut, int64(n)))
	}
	if n := max(int(r.Block.Requeues), len(r.Requeues)); n > 0 {
		b.add(IntAttr(KeyBlockRequeues, int64(n)))
	}
	if n := len(r.Requeues) - maxBlockEvents; n > 0 {
		b.add(IntAttr(KeyBlockRequeuesLeftOut, int64(n)))
	}
}

// submitterAttrs adds who submitted a request or bio. Write-back has a cgroup
// only: the thread that was current is the kernel's.
func (b *RequestBuilder) submitterAttrs(r *event.Block) {
	if r.Flags&event.BlockWriteback != 0 {
		b.add(BoolAttr(KeyBlockWriteback, true))
	} else if r.Flags&event.BlockSubmitter != 0 && r.TGID != 0 {
		b.add(IntAttr(KeyProcessPID, int64(r.TGID)))
		b.add(IntAttr(KeyThreadID, int64(r.TID)))
		if name := b.names.comms.name(r.Comm); name != "" {
			b.add(StringAttr(KeyThreadName, name))
		}
	}
	if r.Cgroup == 0 {
		return
	}
	b.add(IntAttr(KeyCgroupID, int64(r.Cgroup)))
	g := b.names.cgroup(r.Cgroup)
	if g.path != "" {
		b.add(StringAttr(KeyCgroupPath, g.path))
	}
	if g.container != "" {
		b.add(StringAttr(KeyContainerID, g.container))
	}
}

func (b *RequestBuilder) blockTimeAttrs(r *blockio.Request, s *Span) {
	if from := queuedMonoNs(&r.Block); from != 0 {
		b.add(IntAttr(KeyBlockQueueDurationNs, int64(r.IssueMonoNs-from)))
	}
	b.add(IntAttr(KeyDurationNs, int64(s.ExitMonoNs-s.EnterMonoNs)))
	if s.ParentIndex < 0 {
		b.add(IntAttr(KeyStartUnixNs, int64(b.trace.unix(s.EnterMonoNs))))
		b.add(IntAttr(KeyStartMonoNs, int64(s.EnterMonoNs)))
	}
}

// requestEvents gives the span of a request an event for each attempt that was
// given back and for each bio that it took along.
func (b *RequestBuilder) requestEvents(r *blockio.Request, s *Span) {
	at := len(b.events)
	for i := range r.Requeues[:min(len(r.Requeues), maxBlockEvents)] {
		b.requeueEvent(&r.Requeues[i])
	}
	for i := range r.Merges[:min(len(r.Merges), maxBlockEvents)] {
		b.mergeEvent(&r.Merges[i], s.EnterMonoNs)
	}
	s.Events = b.events[at:len(b.events):len(b.events)]
}

func (b *RequestBuilder) requeueEvent(q *event.Block) {
	from := len(b.attrs)
	if ns, ok := blockio.Latency(q); ok && q.IssueMonoNs != 0 {
		b.add(IntAttr(KeyDurationNs, int64(ns)))
	}
	if q.Status != 0 {
		b.add(StringAttr(KeyErrorType, b.names.failure(q).name))
	}
	b.events = append(b.events, SpanEvent{Name: "requeue", UnixNs: b.trace.unix(q.CompleteMonoNs), Attrs: b.cut(from)})
}

// mergeEvent tells of a bio that a request took along, and of the waiter of a
// flush that several share: its data is not in the request.
func (b *RequestBuilder) mergeEvent(m *event.Block, issueMonoNs uint64) {
	name := "merge"
	if m.Flags&event.BlockMerged == 0 {
		name = "flush waiter"
	}
	at := m.SubmitMonoNs
	if at == 0 {
		at = issueMonoNs
	}
	from := len(b.attrs)
	if !b.names.operation(m.Op()).flush && m.Sector != sectorNone {
		b.add(IntAttr(KeyBlockSector, int64(m.Sector)))
	}
	b.add(IntAttr(KeyBlockBytes, int64(m.Bytes)))
	b.submitterAttrs(m)
	b.events = append(b.events, SpanEvent{Name: name, UnixNs: b.trace.unix(at), Attrs: b.cut(from)})
}

func (b *RequestBuilder) address(addr uint64) uint64 {
	if b.raw {
		return addr
	}
	return b.ids.address(addr)
}
