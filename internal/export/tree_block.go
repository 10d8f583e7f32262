package export

import (
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// writeBack stands for the process of what a write-back thread submitted.
const writeBack = "write-back"

// appendBlockTrace appends the header of a block request or bio and a line for
// each span below it, but none for its own wait, of which the header tells.
func (w *tree) appendBlockTrace(dst []byte, t *spans.Trace, width int) []byte {
	w.survey(t)
	dst = w.appendBlockHeader(dst, t, width)
	for i := 1; i < len(t.Spans); i++ {
		if s := &t.Spans[i]; s.Wait && s.ParentIndex == 0 {
			continue
		}
		w.line.reset()
		w.blockSpan(t, i, width)
		dst = append(w.line.appendTo(dst, width, w.o.Color, w.signs.ellipsis), '\n')
	}
	return dst
}

func (w *tree) appendBlockHeader(dst []byte, t *spans.Trace, width int) []byte {
	l, s := &w.line, t.Root()
	l.reset()
	l.text = appendClock(l.text, s.EnterMonoNs+uint64(t.OffsetNs), "15:04:05.000000", w.o.Location)
	l.end(dim)
	w.put(bold, appendClean(w.piece, s.Name, w.o.ASCII))
	w.put(bold, appendDevice(w.piece, s, w.o.ASCII))
	w.put(plain, appendSector(w.piece, s))
	w.put(plain, appendBytes(w.piece, s))
	w.put(plain, w.appendFlags(w.piece, t, s))
	w.put(plain, w.appendSubmitter(w.piece, s))
	if a := attr(s, spans.KeyCgroupPath); a != nil {
		w.put(plain, appendClean(w.piece, a.Str, w.o.ASCII))
	}
	w.put(dim, appendApp(w.piece, s))
	w.put(plain, appendDuration(w.piece, s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs), w.signs.micro))
	w.put(plain, w.appendWait(w.piece, t))
	w.put(dim, appendBios(w.piece, s))
	w.put(change, appendRequeues(w.piece, s))
	w.blockEnding(t)
	return append(w.wrap(dst, width), '\n')
}

// blockEnding adds how the request ended when that is special, and what is
// missing.
func (w *tree) blockEnding(t *spans.Trace) {
	s := t.Root()
	switch {
	case s.Block.Status != 0:
		w.put(alarm, appendErrorType(append(w.piece, "FAILED "...), s, w.o.ASCII))
	case s.Error:
		w.field(alarm, "failed below")
	}
	switch {
	case t.Unfinished:
		w.field(alarm, "unfinished")
	case t.Evicted:
		w.field(alarm, "evicted")
	case t.Incomplete:
		w.field(alarm, "incomplete")
	}
}

// blockSpan makes the line of span i. What must not be cut stands first.
func (w *tree) blockSpan(t *spans.Trace, i, width int) {
	s, l := &t.Spans[i], &w.line
	w.offset(s.EnterMonoNs, t.Root().EnterMonoNs)
	l.text = appendDuration(l.text, s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs), w.signs.micro)
	l.pad(durationColumns)
	l.end(plain)
	l.add(plain, "  ")
	w.guides(int(s.Depth), w.last[i], width)

	failed := s.Block.Status != 0 && !s.Wait
	name := plain
	if failed {
		name = alarm
	}
	l.text = appendClean(l.text, s.Name, w.o.ASCII)
	l.end(name)
	if s.Wait {
		w.detail(plain, w.appendScheduler(w.piece, s))
		return
	}
	w.detail(plain, appendDevice(w.piece, s, w.o.ASCII))
	if failed {
		w.detail(alarm, appendErrorType(append(append(w.piece, w.signs.cross...), ' '), s, w.o.ASCII))
	}
	if unfinished(s) {
		w.detail(alarm, append(w.piece, "unfinished"...))
	}
	w.detail(plain, appendSector(w.piece, s))
	w.detail(plain, appendBytes(w.piece, s))
	w.detail(dim, appendBios(w.piece, s))
	w.detail(change, appendRequeues(w.piece, s))
}

// offset adds the column of a span's start, as seen from the root's.
func (w *tree) offset(enterNs, rootNs uint64) {
	l := &w.line
	sign, ns := byte('+'), enterNs-rootNs
	if enterNs < rootNs {
		sign, ns = '-', rootNs-enterNs
	}
	l.text = appendDuration(append(l.text, sign), ns, w.signs.micro)
	l.pad(offsetColumns)
	l.end(dim)
}

// put adds a piece that was appended to w.piece, unless it is empty.
func (w *tree) put(s style, text []byte) {
	w.piece = text[:0]
	w.line.text = append(w.line.text, text...)
	w.line.end(s)
}

// detail is put with a gap before it.
func (w *tree) detail(s style, text []byte) {
	if len(text) > 0 {
		w.line.text = append(w.line.text, "  "...)
	}
	w.put(s, text)
}

// appendWait appends how long the root waited for its issue, and how much of
// that the I/O scheduler had it.
func (w *tree) appendWait(dst []byte, t *spans.Trace) []byte {
	for i := 1; i < len(t.Spans); i++ {
		s := &t.Spans[i]
		if !s.Wait || s.ParentIndex != 0 {
			continue
		}
		dst = append(appendClean(dst, s.Name, w.o.ASCII), ' ')
		dst = appendDuration(dst, s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs), w.signs.micro)
		if attr(s, spans.KeyBlockSchedulerDurationNs) == nil {
			return dst
		}
		return append(w.appendScheduler(append(dst, " ("...), s), ')')
	}
	return dst
}

// appendScheduler appends how much of a wait the I/O scheduler had the request.
func (w *tree) appendScheduler(dst []byte, wait *spans.Span) []byte {
	a := attr(wait, spans.KeyBlockSchedulerDurationNs)
	if a == nil {
		return dst
	}
	return appendDuration(append(dst, "scheduler "...), uint64(a.Int), w.signs.micro)
}

// appendFlags appends sync,fua.
func (w *tree) appendFlags(dst []byte, t *spans.Trace, s *spans.Span) []byte {
	a := attr(s, spans.KeyBlockFlags)
	if a == nil {
		return dst
	}
	for i, name := range t.List(*a) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendClean(dst, name, w.o.ASCII)
	}
	return dst
}

// appendSubmitter appends dd[812], or that no process can be named.
func (w *tree) appendSubmitter(dst []byte, s *spans.Span) []byte {
	if attr(s, spans.KeyBlockWriteback) != nil {
		return append(dst, writeBack...)
	}
	return appendProcess(dst, s.Attrs, w.o.ASCII)
}

// appendDevice appends the name of the partition, else of the device.
func appendDevice(dst []byte, s *spans.Span, ascii bool) []byte {
	a := attr(s, spans.KeyBlockPartition)
	if a == nil {
		a = attr(s, spans.KeySystemDevice)
	}
	if a == nil {
		return dst
	}
	return appendClean(dst, a.Str, ascii)
}

// appendSector appends where a request begins, if it does: counted from the
// start of the whole device, in a partition, too.
func appendSector(dst []byte, s *spans.Span) []byte {
	if a := attr(s, spans.KeyBlockSector); a != nil {
		return strconv.AppendUint(append(dst, "sector "...), uint64(a.Int), 10)
	}
	return dst
}

// appendBytes appends how many bytes were asked for, and before it how many
// completed where that is another number.
func appendBytes(dst []byte, s *spans.Span) []byte {
	b := s.Block
	if b.Bytes == 0 {
		return dst
	}
	if b.Done != b.Bytes && !unfinished(s) {
		dst = append(strconv.AppendUint(dst, uint64(b.Done), 10), " of "...)
	}
	return append(strconv.AppendUint(dst, uint64(b.Bytes), 10), " B"...)
}

// appendBios appends of how many bios a request is made, where it is several.
func appendBios(dst []byte, s *spans.Span) []byte {
	if s.Block.Bios < 2 {
		return dst
	}
	return append(strconv.AppendUint(dst, uint64(s.Block.Bios), 10), " bios"...)
}

// appendRequeues appends how often a request was given back.
func appendRequeues(dst []byte, s *spans.Span) []byte {
	a := attr(s, spans.KeyBlockRequeues)
	switch {
	case a == nil:
		return dst
	case a.Int == 1:
		return append(dst, "1 requeue"...)
	default:
		return append(strconv.AppendInt(dst, a.Int, 10), " requeues"...)
	}
}

// appendErrorType appends the name of a failure.
func appendErrorType(dst []byte, s *spans.Span, ascii bool) []byte {
	if a := attr(s, spans.KeyErrorType); a != nil {
		return appendClean(dst, a.Str, ascii)
	}
	return strconv.AppendInt(append(dst, "status "...), int64(s.Block.Status), 10)
}

// unfinished reports whether the end of a request was not seen.
func unfinished(s *spans.Span) bool {
	a := attr(s, spans.KeyEnd)
	return a != nil && a.Str == "unfinished"
}
