package export

import (
	"fmt"
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// appendApp appends the span of the application that the root names, as "app
// TRACE/SPAN": short enough for a narrow terminal. Where nobody will find it, it says so.
func appendApp(dst []byte, root *spans.Span) []byte {
	trace, span := attr(root, spans.KeyAppTraceID), attr(root, spans.KeyAppSpanID)
	if trace == nil || span == nil {
		return dst
	}
	dst = fmt.Appendf(dst, "app %s/%016x", trace.Str, uint64(span.Int))
	if attr(root, spans.KeyAppSampled) != nil {
		dst = append(dst, " (not sampled)"...)
	}
	return dst
}

// appendSummary appends the line of what a span of an application caused: "packets
// sent  app TRACE/SPAN  12 traces  4321 bytes  1.2ms".
func (w *tree) appendSummary(dst []byte, t *spans.Trace, width int) []byte {
	l, s := &w.line, t.Root()
	l.reset()
	l.text = appendClock(l.text, s.StartUnixNs, "15:04:05.000000", w.o.Location)
	l.end(dim)
	w.field(bold, s.Name)
	w.field(dim, fmt.Sprintf("app %x/%x", t.ID, s.Parent))
	for _, part := range []struct {
		key  spans.Key
		word string
	}{
		{spans.KeySummaryPackets, " packets"},
		{spans.KeySummaryRequests, " requests"},
		{spans.KeySummaryBytes, " bytes"},
		{spans.KeySummaryRetransmits, " retransmissions"},
		{spans.KeySummaryDrops, " drops"},
		{spans.KeySummaryErrors, " errors"},
	} {
		if a := attr(s, part.key); a != nil {
			w.field(plain, strconv.FormatInt(a.Int, 10)+part.word)
		}
	}
	w.field(plain, string(appendDuration(nil, s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs), w.signs.micro)))
	return append(w.wrap(dst, width), '\n', '\n')
}
