package spans

import (
	"sort"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// appendSpans appends the root, without its attributes, and below it the spans
// of the frames in depth-first order, with those of the waits.
func (b *Builder) appendSpans(j *journey.Journey, base uint64) {
	t, n := &b.trace, &b.nester
	root := Span{
		ID: spanID(base, 0), Facts: t.First, ParentIndex: -1,
		EnterMonoNs: t.EnterMonoNs, ExitMonoNs: t.ExitMonoNs,
		StartUnixNs: t.unix(t.EnterMonoNs), EndUnixNs: t.unix(t.ExitMonoNs),
	}
	root.EndUnixNs = max(root.EndUnixNs, root.StartUnixNs+1)
	t.Spans = append(t.Spans, root)
	if len(n.roots) == 0 {
		return
	}
	frames, waits := 0, 0
	for i := n.roots[0]; i >= 0; {
		nd := &n.nodes[i]
		parent := int32(0)
		if nd.parent >= 0 {
			parent = n.nodes[nd.parent].span
		} else {
			waits = b.appendWaits(waits, nd.enter, base)
		}
		nd.span = int32(len(t.Spans))
		frames++
		b.appendSpan(&j.Frames[nd.frame], nd, parent, spanID(base, frames))
		i = n.following(i)
	}
	b.appendWaits(waits, t.ExitMonoNs, base)
}

// following returns the node after i in depth-first order, -1 at the end.
func (n *nester) following(i int32) int32 {
	if c := n.nodes[i].first; c >= 0 {
		return c
	}
	for i >= 0 {
		if s := n.nodes[i].next; s >= 0 {
			return s
		}
		i = n.nodes[i].parent
	}
	return -1
}

// unix converts a CLOCK_MONOTONIC time to CLOCK_REALTIME.
func (t *Trace) unix(monoNs uint64) uint64 { return monoNs + uint64(t.OffsetNs) }

func (b *Builder) appendSpan(f *event.Frame, nd *node, parent int32, id [8]byte) {
	t := &b.trace
	index := len(t.Spans)
	fn := b.names.function(f.Func)
	p := &t.Spans[parent]
	stage := fn.stage
	if stage == StageUnknown {
		stage = p.Stage
	}
	start, end := within(t.unix(nd.enter), t.unix(nd.exit), p.EndUnixNs)
	t.Spans = append(t.Spans, Span{
		ID: id, Parent: p.ID, Name: fn.Name,
		StartUnixNs: start, EndUnixNs: end, EnterMonoNs: nd.enter, ExitMonoNs: nd.exit,
		Frame: *f, Function: fn.Function, Stage: stage, Facts: b.factsOf(f, nd.exit),
		ParentIndex: parent, Depth: p.Depth + 1, SelfNs: nd.self(), Incomplete: nd.incomplete,
	})
	s := &t.Spans[index]
	noSkb := f.Flags&event.FrameNoSkb != 0
	seen := noSkb || b.note(s)
	b.childAttrs(s, fn, seen)
	if !noSkb {
		b.noteReader(index, fn)
		b.taken = b.taken || fn.takes
	}
}

// within makes a span at least 1 ns long without letting it stick out of its
// parent, whose own length is at least 1 ns.
func within(start, end, parentEnd uint64) (uint64, uint64) {
	if end > start {
		return start, end
	}
	if start < parentEnd {
		return start, start + 1
	}
	return start - 1, start
}

// factsOf returns the index of the facts in force in a frame: of its skb, by
// number, and where an address was used twice the latest by then. -1 if they
// never came.
func (b *Builder) factsOf(f *event.Frame, exitNs uint64) int32 {
	facts := b.trace.Facts
	// Facts are in the order of AtMonoNs, and those of a frame come just
	// before its return.
	later := sort.Search(len(facts), func(i int) bool { return facts[i].AtMonoNs > exitNs })
	for i := later - 1; i >= 0; i-- {
		if facts[i].Number == f.Facts && facts[i].Skb == f.Skb {
			return int32(i)
		}
	}
	for i := later; i < len(facts); i++ {
		if facts[i].Number == f.Facts && facts[i].Skb == f.Skb {
			return int32(i)
		}
	}
	return -1
}

// note sets in what a span differs from the frame before it on the same skb
// and says whether there was one.
func (b *Builder) note(s *Span) (seen bool) {
	f := &s.Frame
	now := lastSkb{skb: f.Skb, len: f.Len, mark: f.Mark, facts: s.Facts, cpu: f.CPU}
	for i := len(b.skbs) - 1; i >= 0; i-- {
		if b.skbs[i].skb == f.Skb {
			s.Changed = b.changed(&b.skbs[i], &now)
			if now.facts < 0 {
				now.facts = b.skbs[i].facts
			}
			b.skbs[i] = now
			return true
		}
	}
	s.Changed = ChangedLen | ChangedMark | ChangedInterface | ChangedNetNS | ChangedTuple | ChangedCPU
	b.skbs = append(b.skbs, now)
	return false
}

func (b *Builder) changed(was, now *lastSkb) (c Changed) {
	if was.len != now.len {
		c |= ChangedLen
	}
	if was.mark != now.mark {
		c |= ChangedMark
	}
	if was.cpu != now.cpu {
		c |= ChangedCPU
	}
	if was.facts == now.facts || now.facts < 0 {
		return c
	}
	f := &b.trace.Facts[now.facts]
	if was.facts < 0 {
		return c | ChangedInterface | ChangedNetNS | ChangedTuple
	}
	w := &b.trace.Facts[was.facts]
	if w.Ifindex != f.Ifindex || w.Interface != f.Interface {
		c |= ChangedInterface
	}
	if w.NetNS != f.NetNS {
		c |= ChangedNetNS
	}
	if !sameTuple(w, f) {
		c |= ChangedTuple | b.tunnelChange(was.facts, now.facts)
	}
	return c
}

func sameTuple(a, b *event.Facts) bool {
	const tuple = event.FactsTuple | event.FactsPorts
	return a.Flags&tuple == b.Flags&tuple && a.Family == b.Family && a.Protocol == b.Protocol &&
		a.Source == b.Source && a.Destination == b.Destination &&
		a.SourcePort == b.SourcePort && a.DestinationPort == b.DestinationPort
}

// childAttrs gives the span of a frame its attributes.
func (b *Builder) childAttrs(s *Span, fn *function, seen bool) {
	from := len(b.attrs)
	f := &s.Frame
	b.add(StringAttr(KeyCodeFunctionName, fn.Name))
	if fn.Module != "" {
		b.add(StringAttr(KeyModule, fn.Module))
	}
	if fn.text != "" {
		b.add(StringAttr(KeyDescription, fn.text))
	}
	if s.Stage != StageUnknown {
		b.add(StringAttr(KeyStage, s.Stage.String()))
	}
	b.add(IntAttr(KeyCPULogicalNumber, int64(f.CPU)))
	b.add(IntAttr(KeyThreadID, int64(f.TID)))
	b.childFacts(s, seen)
	if f.Flags&event.FrameNoSkb != 0 {
		b.add(BoolAttr(KeyNoSkb, true))
	} else {
		b.childSkb(s, seen)
	}
	b.childExtras(s)
	entryOnly := f.Flags&event.FrameEntryOnly != 0
	if fn.ret != ReturnNone && !entryOnly && !s.Incomplete {
		v := fn.ret.value(f.Return)
		b.add(IntAttr(KeyReturn, v))
		if text := fn.means.text(v); text != "" {
			b.add(StringAttr(KeyResult, text))
		}
	}
	b.programAttrs(s, fn)
	b.add(IntAttr(KeyOffsetNs, int64(s.EnterMonoNs-b.trace.EnterMonoNs)))
	if entryOnly {
		b.add(BoolAttr(KeyEntryOnly, true))
	} else {
		b.add(IntAttr(KeyDurationNs, int64(s.ExitMonoNs-s.EnterMonoNs)))
	}
	if s.Incomplete {
		b.add(BoolAttr(KeyIncomplete, true))
	}
	s.Attrs = b.cut(from)
}

// childFacts adds what the facts in force say: where the skb is, and, after
// address translation or encapsulation, its new tuple.
func (b *Builder) childFacts(s *Span, seen bool) {
	f := b.trace.FactsOf(s)
	if f == nil {
		return
	}
	if name := b.names.fixedString(f.Interface); name != "" {
		b.add(StringAttr(KeyNetworkInterfaceName, name))
	}
	if f.NetNS != 0 {
		b.add(IntAttr(KeyNetNSInum, int64(f.NetNS)))
		if s.Changed&ChangedNetNS != 0 {
			if name := b.names.netNS(f.NetNS, b.trace.unix(f.AtMonoNs)); name != "" {
				b.add(StringAttr(KeyNetNSName, name))
			}
		}
	}
	if seen && s.Changed&ChangedTuple != 0 {
		b.tupleAttrs(f)
		b.tunnelChangeAttr(s.Changed)
	}
}

// childSkb adds the skb where it is another than its parent's, and its length
// and mark where they changed.
func (b *Builder) childSkb(s *Span, seen bool) {
	f := &s.Frame
	p := &b.trace.Spans[s.ParentIndex]
	if !seen || s.ParentIndex > 0 && p.Frame.Skb != f.Skb {
		b.add(HexAttr(KeySkb, b.skbAddress(f.Skb)))
	}
	if s.Changed&ChangedLen != 0 {
		b.add(IntAttr(KeySkbLen, int64(f.Len)))
	}
	if s.Changed&ChangedMark != 0 && (seen || f.Mark != 0) {
		b.add(IntAttr(KeySkbMark, int64(f.Mark)))
	}
}

func (b *Builder) skbAddress(addr uint64) uint64 {
	if b.raw {
		return addr
	}
	return b.ids.address(addr)
}

// tupleAttrs adds the addresses, and the ports where the protocol has them.
func (b *Builder) tupleAttrs(f *event.Facts) {
	if f.Flags&event.FactsTuple == 0 {
		return
	}
	ports := f.Flags&event.FactsPorts != 0 && transport(f) != ""
	if a := b.names.address(f.Family, f.Source); a != "" {
		b.add(StringAttr(KeySourceAddress, a))
	}
	if ports {
		b.add(IntAttr(KeySourcePort, int64(f.SourcePort)))
	}
	if a := b.names.address(f.Family, f.Destination); a != "" {
		b.add(StringAttr(KeyDestinationAddress, a))
	}
	if ports {
		b.add(IntAttr(KeyDestinationPort, int64(f.DestinationPort)))
	}
}
