package export

import (
	"strings"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// appendExtras appends what was asked for of a frame besides: where it was called
// from, and the members of its skb that changed.
func appendExtras(dst []byte, t *spans.Trace, s *spans.Span, ascii bool) []byte {
	if a := attr(s, spans.KeyCaller); a != nil {
		dst = appendClean(append(dst, "  from "...), a.Str, ascii)
	}
	if a := attr(s, spans.KeySkbFields); a != nil {
		dst = append(dst, ' ')
		for _, field := range t.List(*a) {
			dst = appendClean(append(dst, ' '), field, ascii)
		}
	}
	return dst
}

// stackOf gives the lines of a span's kernel stack, innermost first.
func stackOf(s *spans.Span) []string {
	a := attr(s, spans.KeyCodeStacktrace)
	if a == nil {
		return nil
	}
	return strings.Split(a.Str, "\n")
}

// extras adds appendExtras to the line of a frame.
func (w *tree) extras(t *spans.Trace, s *spans.Span) {
	w.line.text = appendExtras(w.line.text, t, s, w.o.ASCII)
	w.line.end(change)
}

// appendStack appends a line for each address of a span's kernel stack, below
// the functions.
func (w *tree) appendStack(dst []byte, s *spans.Span, width int) []byte {
	for _, place := range stackOf(s) {
		w.line.reset()
		w.line.pad(offsetColumns + durationColumns + 2)
		w.line.text = appendClean(append(w.line.text, "    "...), place, w.o.ASCII)
		w.line.end(dim)
		dst = append(w.line.appendTo(dst, width, w.o.Color, w.signs.ellipsis), '\n')
	}
	return dst
}

// payload gives the packet's bytes for the header, "" without.
func payload(t *spans.Trace) string {
	if a := attr(t.Root(), spans.KeyPayload); a != nil {
		return "payload " + a.Str
	}
	return ""
}
