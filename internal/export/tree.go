package export

import (
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// tree writes a header for the packet and below it a line for each frame:
// offset from the start, duration, function, and what is special about it. Of a
// block request the lines are those of the requests on the devices below.
type tree struct {
	o     ConsoleOptions
	signs signs
	line  line
	skbs  []uint64 // addresses of the trace's skbs in the order they come
	last  []bool   // by span: it is the last child of its parent
	open  []bool   // by depth: a later sibling is to come
	piece []byte   // of length 0, to make a piece of the line in
}

// Columns of a frame's line before the function.
const (
	offsetColumns   = 12
	durationColumns = 11
)

func newTree(o ConsoleOptions) *tree { return &tree{o: o, signs: signsFor(o.ASCII)} }

func (w *tree) appendTrace(dst []byte, t *spans.Trace) []byte {
	if len(t.Spans) == 0 {
		return dst
	}
	width := w.o.Width()
	switch {
	case t.Summary:
		return w.appendSummary(dst, t, width)
	case t.Block:
		return w.appendBlockTrace(dst, t, width)
	}
	w.survey(t)
	dst = w.appendHeader(dst, t, width)
	dst = w.appendStack(dst, t.Root(), width)
	for i := 1; i < len(t.Spans); i++ {
		w.line.reset()
		w.frame(t, i, width)
		dst = append(w.line.appendTo(dst, width, w.o.Color, w.signs.ellipsis), '\n')
		dst = w.appendStack(dst, &t.Spans[i], width)
	}
	return append(dst, '\n')
}

// survey finds which spans are last children, and the skbs.
func (w *tree) survey(t *spans.Trace) {
	w.skbs, w.last, w.open = w.skbs[:0], w.last[:0], w.open[:0]
	for i := range t.Spans {
		w.last = append(w.last, true)
		if i > 0 {
			w.skbNumber(t.Spans[i].Frame.Skb)
		}
	}
	for i := len(t.Spans) - 1; i >= 0; i-- {
		depth := int(t.Spans[i].Depth)
		for len(w.open) <= depth {
			w.open = append(w.open, false)
		}
		w.last[i] = !w.open[depth]
		w.open[depth] = true
		w.open = w.open[:depth+1]
	}
}

// skbNumber gives 1 for the first skb of the trace, 2 for the next …
func (w *tree) skbNumber(skb uint64) int {
	for i, s := range w.skbs {
		if s == skb {
			return i + 1
		}
	}
	w.skbs = append(w.skbs, skb)
	return len(w.skbs)
}

// frame makes the line of span i. What must not be cut stands first.
func (w *tree) frame(t *spans.Trace, i, width int) {
	s, l := &t.Spans[i], &w.line
	l.text = append(l.text, '+')
	l.text = appendDuration(l.text, s.EnterMonoNs-min(s.EnterMonoNs, t.EnterMonoNs), w.signs.micro)
	l.pad(offsetColumns)
	l.end(dim)
	if s.Frame.Flags&event.FrameEntryOnly != 0 {
		l.text = append(l.text, '-')
	} else {
		l.text = appendDuration(l.text, s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs), w.signs.micro)
	}
	l.pad(durationColumns)
	l.end(plain)
	l.add(plain, "  ")
	w.guides(int(s.Depth), w.last[i], width)

	dropped := int(t.DropSpan) == i
	name := plain
	switch {
	case dropped || s.Error:
		name = alarm
	case s.Wait:
		name = dim
	}
	l.text = appendClean(l.text, s.Name, w.o.ASCII)
	l.end(name)
	if s.Function.Module != "" {
		l.text = append(l.text, " ["...)
		l.text = append(appendClean(l.text, s.Function.Module, w.o.ASCII), ']')
		l.end(dim)
	}
	if dropped {
		w.drop(t)
	}
	if r := attr(s, spans.KeyReturn); r != nil {
		l.text = strconv.AppendInt(append(l.text, " = "...), r.Int, 10)
		l.end(plain)
	}
	if s.Incomplete {
		l.add(alarm, " (not returned)")
	}
	w.changes(t, i)
	w.extras(t, s)
	if d := attr(s, spans.KeyDescription); d != nil {
		l.text = appendClean(append(l.text, "  "...), d.Str, w.o.ASCII)
		l.end(dim)
	}
}

// guides draws the lines from parents to children. Frames of depth 1 have
// none. Where they would take half the width, a number stands for them.
func (w *tree) guides(depth int, last bool, width int) {
	l := &w.line
	for len(w.open) <= depth {
		w.open = append(w.open, false)
	}
	w.open[depth] = !last
	if width > 0 && 2*(depth-1) > max((width-offsetColumns-durationColumns)/2, 8) {
		l.text = append(l.text, w.signs.ellipsis...)
		l.text = append(strconv.AppendInt(l.text, int64(depth-1), 10), ' ')
		l.end(dim)
		return
	}
	for d := 2; d < depth; d++ {
		if w.open[d] {
			l.text = append(l.text, w.signs.bar...)
		} else {
			l.text = append(l.text, "  "...)
		}
	}
	if depth > 1 {
		if last {
			l.text = append(l.text, w.signs.lastBranch...)
		} else {
			l.text = append(l.text, w.signs.branch...)
		}
	}
	l.end(dim)
}

// drop adds the mark of a dropped packet with the reason; the header has the
// place, too.
func (w *tree) drop(t *spans.Trace) {
	l := &w.line
	l.text = append(append(append(l.text, ' '), w.signs.cross...), " dropped"...)
	if t.Delivered {
		l.text = append(l.text, " one copy"...)
	}
	if t.DropReason != "" {
		l.text = appendClean(append(l.text, ": "...), t.DropReason, w.o.ASCII)
	}
	l.end(alarm)
}

// changes adds what differs from the frame before on the same skb.
func (w *tree) changes(t *spans.Trace, i int) {
	s, l := &t.Spans[i], &w.line
	from := len(l.text)
	l.text = append(l.text, ' ')
	if len(w.skbs) > 1 && i > 1 && t.Spans[i-1].Frame.Skb != s.Frame.Skb {
		l.text = strconv.AppendInt(append(l.text, " skb "...), int64(w.skbNumber(s.Frame.Skb)), 10)
	}
	f := t.FactsOf(s)
	if f != nil && s.Changed&spans.ChangedInterface != 0 && f.Interface[0] != 0 {
		l.text = appendClean(append(l.text, " dev "...), fixedString(f.Interface), w.o.ASCII)
	}
	if f != nil && s.Changed&spans.ChangedNetNS != 0 && f.NetNS != 0 {
		l.text = append(l.text, " netns "...)
		if name := attr(s, spans.KeyNetNSName); name != nil {
			l.text = appendClean(l.text, name.Str, w.o.ASCII)
		} else {
			l.text = strconv.AppendUint(l.text, uint64(f.NetNS), 10)
		}
	}
	if s.Changed&spans.ChangedLen != 0 {
		l.text = strconv.AppendUint(append(l.text, " len "...), uint64(s.Frame.Len), 10)
	}
	if s.Changed&spans.ChangedMark != 0 && (s.Frame.Mark != 0 || !w.first(t, i)) {
		l.text = strconv.AppendUint(append(l.text, " mark 0x"...), uint64(s.Frame.Mark), 16)
	}
	if f != nil && s.Changed&spans.ChangedTuple != 0 && f.Flags&event.FactsTuple != 0 && !w.first(t, i) {
		l.text = w.appendTuple(append(l.text, ' '), f)
	}
	if s.Changed&spans.ChangedCPU != 0 {
		l.text = strconv.AppendUint(append(l.text, " cpu "...), uint64(s.Frame.CPU), 10)
	}
	if len(l.text) == from+1 {
		l.text = l.text[:from]
	}
	l.end(change)
}

// first reports whether all is new because span i is the first of its skb.
func (w *tree) first(t *spans.Trace, i int) bool {
	for k := 1; k < i; k++ {
		if t.Spans[k].Frame.Skb == t.Spans[i].Frame.Skb {
			return false
		}
	}
	return true
}
