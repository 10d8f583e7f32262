package spans

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// drops finds where skbs of the packet were dropped and whether that was the
// end of the packet. The spans of a packet that died have status Error; the
// other copy of one that was delivered (a ping's answer goes to its raw socket,
// and what ping_rcv finds no socket for is dropped) only tells its reason.
func (b *Builder) drops() {
	t := &b.trace
	t.Delivered = t.End == endName(event.EndDropped) && b.delivered()
	t.End = b.outcome()
	for i := range t.Ends {
		e := &t.Ends[i]
		if e.How != event.EndDropped {
			continue
		}
		reason, location := b.names.reason(e.Reason), b.names.location(e.Location)
		at, first := b.droppedIn(e), t.DropSpan < 0
		if reason == reasonNone {
			reason = b.programReason(e, reason)
		}
		if first {
			t.DropReason, t.DropLocation, t.DropSpan = reason, location, at
		}
		b.markDrop(at, reason, location)
		b.markRule(at, e, location, first)
		b.dropStack(at, e)
	}
}

// outcome is the trace's End with what the packet's way adds to how its skbs ended.
func (b *Builder) outcome() string {
	t := &b.trace
	switch t.End {
	case endName(event.EndDropped):
		if t.Delivered {
			return "delivered"
		}
	case endName(event.EndConsumed), endName(event.EndDeferred), endName(event.EndFreed):
		if b.taken && b.socketTook() {
			return "delivered"
		}
		if t.Direction == DirectionForward && b.leaves() {
			return "forwarded"
		}
	case endName(0), endName(event.EndEvicted):
		if how, by := b.kept(); how != "" {
			t.EndFunction = by
			return how
		}
	}
	return t.End
}

// leaves says whether the last function that tells a direction sends.
func (b *Builder) leaves() bool {
	nodes := b.nester.nodes
	for i := len(nodes) - 1; i >= 0; i-- {
		f := &b.trace.Spans[nodes[i].span].Frame
		if f.Flags&event.FrameNoSkb != 0 {
			continue
		}
		switch b.names.function(f.Func).side {
		case sideTx, sideForward:
			return true
		case sideRx:
			return false
		case sideNone:
		}
	}
	return false
}

// markDrop marks the span in which an skb was dropped, and the root.
func (b *Builder) markDrop(at int32, reason, location string) {
	t := &b.trace
	if s := &t.Spans[at]; at != 0 && !s.Error {
		b.dropAttrs(s, reason, location)
	}
	if t.Delivered {
		return
	}
	for _, k := range [...]int32{0, at} {
		if s := &t.Spans[k]; !s.Error {
			s.Error, s.Message = true, b.names.message(reason, location)
		}
	}
}

// delivered says whether a skb of a packet with a drop went to a reader all the
// same: a socket took it in, and it ended as read skbs end. Taps (packet_rcv)
// are no such sockets.
func (b *Builder) delivered() bool {
	for i := range b.trace.Ends {
		e := &b.trace.Ends[i]
		if (e.How == event.EndConsumed || e.How == event.EndDeferred) && b.received(e) {
			return true
		}
	}
	return false
}

// socketTook says whether a socket took in an skb of the packet that was not
// dropped then.
func (b *Builder) socketTook() bool {
	for i := range b.trace.Ends {
		e := &b.trace.Ends[i]
		if e.How == event.EndDropped {
			continue
		}
		for k := 1; k < len(b.trace.Spans); k++ {
			s := &b.trace.Spans[k]
			if !s.Wait && s.Frame.Skb == e.Skb && s.EnterMonoNs <= e.AtMonoNs && b.names.function(s.Frame.Func).takes {
				return true
			}
		}
	}
	return false
}

// received says whether a socket's receive function worked on the skb of e.
func (b *Builder) received(e *event.End) bool {
	t := &b.trace
	for i := 1; i < len(t.Spans); i++ {
		s := &t.Spans[i]
		if s.Wait || s.Frame.Skb != e.Skb || s.EnterMonoNs > e.AtMonoNs {
			continue
		}
		if f := b.names.function(s.Frame.Func); f.stage == StageSocket && f.side == sideRx {
			return true
		}
	}
	return false
}

func (b *Builder) dropAttrs(s *Span, reason, location string) {
	from := len(b.attrs)
	b.attrs = append(b.attrs, s.Attrs...)
	if !b.trace.Delivered {
		b.add(StringAttr(KeyErrorType, reason))
	}
	b.add(StringAttr(KeyDropReason, reason))
	if location != "" {
		b.add(StringAttr(KeyDropLocation, location))
	}
	s.Attrs = b.cut(from)
}

// droppedIn returns the index of the span of the frame that dropped an skb: the
// innermost that was open on that skb and CPU and does more than freeing; 0
// (the root) when no frame was.
func (b *Builder) droppedIn(e *event.End) int32 {
	t := &b.trace
	best, bestScore := int32(0), 0
	for i := 1; i < len(t.Spans); i++ {
		s := &t.Spans[i]
		if s.Wait || s.EnterMonoNs > e.AtMonoNs || s.ExitMonoNs < e.AtMonoNs && s.Frame.Flags&event.FrameEntryOnly == 0 {
			continue
		}
		score := 1
		if s.Frame.Skb == e.Skb {
			score += 1
		}
		if s.Frame.CPU == e.CPU {
			score += 2
		}
		// Spans are in depth-first order: the later of equals is the inner one.
		if score > 1 && score >= bestScore {
			best, bestScore = int32(i), score
		}
	}
	inner := best
	for inner > 0 && b.names.function(t.Spans[inner].Frame.Func).frees {
		inner = t.Spans[inner].ParentIndex
	}
	if inner == 0 {
		return best
	}
	return inner
}
