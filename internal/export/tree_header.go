package export

import (
	"strconv"
	"unicode/utf8"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// appendHeader appends the line of the packet. Fields that do not fit in the
// width go to further lines, so that none is cut.
func (w *tree) appendHeader(dst []byte, t *spans.Trace, width int) []byte {
	l := &w.line
	l.reset()
	l.text = appendClock(l.text, t.EnterMonoNs+uint64(t.OffsetNs), "15:04:05.000000", w.o.Location)
	l.end(dim)
	w.field(bold, string(w.appendKind(nil, t)))
	if f := t.FirstFacts(); f != nil {
		if f.Flags&event.FactsTuple != 0 {
			w.field(bold, string(w.appendTuple(nil, f)))
		}
		w.field(plain, string(appendDetails(nil, f)))
		w.field(plain, string(w.appendTunnel(nil, t)))
	}
	w.field(plain, string(w.appendInterfaces(nil, t)))
	w.field(plain, string(w.appendProcesses(nil, t)))
	w.field(plain, string(appendDuration(nil, t.ExitMonoNs-min(t.ExitMonoNs, t.EnterMonoNs), w.signs.micro)))
	w.field(dim, frames(len(t.Spans)-1-t.Waits))
	w.field(plain, string(appendLinks(nil, t.Root())))
	w.field(plain, string(appendApp(nil, t.Root())))
	w.ending(t)
	w.field(dim, payload(t))
	return append(w.wrap(dst, width), '\n')
}

// field adds a piece, unless it is empty.
func (w *tree) field(s style, text string) {
	if text != "" {
		w.line.add(s, text)
	}
}

func frames(n int) string {
	if n == 1 {
		return "1 frame"
	}
	return strconv.Itoa(n) + " frames"
}

// wrap appends the fields of a header with two spaces between them.
func (w *tree) wrap(dst []byte, width int) []byte {
	const gap, indent = "  ", "    "
	column, from := 0, 0
	for i, p := range w.line.pieces {
		text := w.line.text[from:p.end]
		from = p.end
		switch {
		case i == 0:
		case width > 0 && column+len(gap)+p.columns > width:
			dst = append(append(dst, '\n'), indent...)
			column = len(indent)
		default:
			dst = append(dst, gap...)
			column += len(gap)
		}
		dst = appendStyled(dst, p.style, text, w.o.Color)
		column += utf8.RuneCount(text)
	}
	return dst
}

func (w *tree) appendKind(dst []byte, t *spans.Trace) []byte {
	dst = append(dst, t.Direction.String()...)
	if len(dst) > 0 && t.Protocol != "" {
		dst = append(dst, ' ')
	}
	return appendClean(dst, t.Protocol, w.o.ASCII)
}

func (w *tree) appendTuple(dst []byte, f *event.Facts) []byte {
	dst = appendEndpoint(dst, f, f.Source, f.SourcePort)
	dst = append(append(append(dst, ' '), w.signs.arrow...), ' ')
	return appendEndpoint(dst, f, f.Destination, f.DestinationPort)
}

// appendProcesses appends who sent the packet, whom it came to and who read it:
// ping[259] in container 0123456789ab, for nginx[70], read by curl[71].
func (w *tree) appendProcesses(dst []byte, t *spans.Trace) []byte {
	root := t.Root()
	var reader *spans.Attr
	for i := range root.Events {
		if root.Events[i].Name == "read" {
			reader = attrOf(root.Events[i].Attrs, spans.KeyProcessPID)
		}
	}
	switch t.Direction {
	case spans.DirectionTx:
		dst = appendOwner(dst, root.Attrs, w.o.ASCII)
	case spans.DirectionRx:
		dst = w.appendReceiver(dst, root.Attrs, reader)
	case spans.DirectionForward, spans.DirectionUnknown:
	}
	for i := range root.Events {
		switch e := &root.Events[i]; {
		case e.Name == "receive":
			dst = w.appendReceiver(dst, e.Attrs, reader)
		case e.Name == "read" && reader != nil:
			dst = appendProcess(append(appendComma(dst), "read by "...), e.Attrs, w.o.ASCII)
		}
	}
	return dst
}

// appendReceiver appends whom the packet came to, unless the reader says as much.
func (w *tree) appendReceiver(dst []byte, attrs []spans.Attr, reader *spans.Attr) []byte {
	pid := attrOf(attrs, spans.KeyProcessPID)
	if attrOf(attrs, spans.KeyContainerID) == nil && (pid == nil || reader != nil && pid.Int == reader.Int) {
		return dst
	}
	return appendOwner(append(appendComma(dst), "for "...), attrs, w.o.ASCII)
}

func appendComma(dst []byte) []byte {
	if len(dst) == 0 {
		return dst
	}
	return append(dst, ", "...)
}

// shownContainer is how many digits of a container's id are shown, as Docker does.
const shownContainer = 12

// appendOwner appends a process and the container that it is in.
func appendOwner(dst []byte, attrs []spans.Attr, ascii bool) []byte {
	from := len(dst)
	dst = appendProcess(dst, attrs, ascii)
	id := attrOf(attrs, spans.KeyContainerID)
	if id == nil {
		return dst
	}
	if len(dst) > from {
		dst = append(dst, " in "...)
	}
	dst = append(dst, "container "...)
	return appendClean(dst, id.Str[:min(len(id.Str), shownContainer)], ascii)
}

// appendDetails appends what tells packets of one tuple apart.
func appendDetails(dst []byte, f *event.Facts) []byte {
	switch {
	case f.Flags&event.FactsICMP != 0:
		return appendICMP(dst, f)
	case f.Flags&event.FactsPorts != 0 && f.Protocol == protocolTCP:
		dst = append(appendTCPFlags(dst, f.TCPFlags), " seq "...)
		dst = strconv.AppendUint(dst, uint64(f.TCPSeq), 10)
		return strconv.AppendUint(append(dst, " ack "...), uint64(f.TCPAck), 10)
	default:
		return dst
	}
}

func appendICMP(dst []byte, f *event.Facts) []byte {
	name := ""
	switch {
	case f.Protocol == protocolICMP && f.ICMPType == 8, f.Protocol == protocolICMPv6 && f.ICMPType == 128:
		name = "echo request"
	case f.Protocol == protocolICMP && f.ICMPType == 0, f.Protocol == protocolICMPv6 && f.ICMPType == 129:
		name = "echo reply"
	}
	if name == "" {
		dst = strconv.AppendUint(append(dst, "type "...), uint64(f.ICMPType), 10)
		return strconv.AppendUint(append(dst, " code "...), uint64(f.ICMPCode), 10)
	}
	dst = strconv.AppendUint(append(append(dst, name...), " id "...), uint64(f.ICMPID), 10)
	return strconv.AppendUint(append(dst, " seq "...), uint64(f.ICMPSeq), 10)
}

// appendTCPFlags appends SYN,ACK.
func appendTCPFlags(dst []byte, flags uint8) []byte {
	names := [8]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} // RFC 9293 3.1, from bit 0
	if flags == 0 {
		return append(dst, "no flags"...)
	}
	sep := ""
	for i, name := range names {
		if flags&(1<<i) != 0 {
			dst = append(append(dst, sep...), name...)
			sep = ","
		}
	}
	return dst
}

func (w *tree) appendInterfaces(dst []byte, t *spans.Trace) []byte {
	a := attr(t.Root(), spans.KeyInterfaces)
	if a == nil {
		return dst
	}
	for i, name := range t.List(*a) {
		if i > 0 {
			dst = append(append(append(dst, ' '), w.signs.arrow...), ' ')
		}
		dst = appendClean(dst, name, w.o.ASCII)
	}
	return dst
}

// ending adds how the journey ended when that is special, and what is missing.
func (w *tree) ending(t *spans.Trace) {
	if t.DropSpan >= 0 && !t.Delivered {
		text := "DROPPED"
		if t.DropReason != "" {
			text += " " + string(appendClean(nil, t.DropReason, w.o.ASCII))
		}
		if t.DropLocation != "" {
			text += " at " + string(appendClean(nil, t.DropLocation, w.o.ASCII))
		}
		if rule := ruleText(t); rule != "" {
			text += " by " + string(appendClean(nil, rule, w.o.ASCII))
		}
		w.field(alarm, text)
	}
	if t.EndFunction != "" {
		w.field(alarm, t.End+" by "+string(appendClean(nil, t.EndFunction, w.o.ASCII)))
	}
	if t.Unfinished {
		w.field(alarm, "unfinished")
	}
	if t.Evicted {
		w.field(alarm, "evicted")
	}
	switch {
	case t.LostFrames > 0:
		w.field(alarm, frames(int(t.LostFrames))+" lost")
	case t.Incomplete && !t.Unfinished && !t.Evicted:
		w.field(alarm, "incomplete")
	}
	if t.Shed {
		w.field(alarm, "functions shed")
	}
}

// ruleText names what of a packet filter dropped the packet, "" when none did:
// "rule 7 of inet filter input".
func ruleText(t *spans.Trace) string {
	rule := attr(t.Root(), spans.KeyNetfilterRule)
	if rule == nil {
		return ""
	}
	text := "the policy of"
	switch rule.Str {
	case "policy":
	case "unknown":
		text = "a rule or the policy of"
	default:
		text = "rule " + rule.Str + " of"
	}
	for _, k := range []spans.Key{spans.KeyNetfilterFamily, spans.KeyNetfilterTable, spans.KeyNetfilterChain} {
		if a := attr(t.Root(), k); a != nil {
			text += " " + a.Str
		}
	}
	return text
}
