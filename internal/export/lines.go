package export

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// lines writes of packets pwru's table (https://github.com/cilium/pwru): its
// columns in its order, then the time of entry and the duration, and the
// function last. Of block requests it writes biosnoop's. Each begins with a
// header, anew where the other kind came between.
type lines struct {
	o      ConsoleOptions
	micro  string
	begun  bool    // a header is written
	block  bool    // it is that of block requests
	order  []int32 // indexes of spans, by the time of entry
	column []byte
}

func newLines(o ConsoleOptions) *lines { return &lines{o: o, micro: signsFor(o.ASCII).micro} }

func (w *lines) appendTrace(dst []byte, t *spans.Trace) []byte {
	if t.Summary {
		return dst // a table of frames, or of requests, has no line for it
	}
	if !w.begun || w.block != t.Block {
		w.begun, w.block = true, t.Block
		if t.Block {
			dst = w.appendBlockHeader(dst)
		} else {
			dst = w.appendHeader(dst)
		}
	}
	w.sort(t)
	for _, i := range w.order {
		if t.Block {
			dst = w.appendRequest(dst, t, &t.Spans[i])
		} else {
			dst = w.appendFrame(dst, t, int(i))
		}
	}
	return dst
}

// sort puts the spans that get a line in the order of their entry: the frames
// of a packet; the requests and bios of a block trace, without what they waited.
func (w *lines) sort(t *spans.Trace) {
	w.order = w.order[:0]
	for i := range t.Spans {
		if !t.Spans[i].Wait && (t.Block || i > 0) {
			w.order = append(w.order, int32(i))
		}
	}
	slices.SortStableFunc(w.order, func(a, b int32) int {
		return cmp.Compare(t.Spans[a].EnterMonoNs, t.Spans[b].EnterMonoNs)
	})
}

// linesWidths are the widths of the columns before FUNC. What is wider moves
// the rest of its line.
func linesWidths() [12]int { return [12]int{18, 3, 16, 10, 8, 14, 6, 5, 5, 36, 18, 10} }

func (w *lines) appendHeader(dst []byte) []byte {
	widths := linesWidths()
	for i, name := range [...]string{
		"SKB", "CPU", "PROCESS", "NETNS", "MARK", "IFACE", "PROTO", "MTU", "LEN", "TUPLE", "TIME", "DURATION",
	} {
		dst = appendColumn(dst, []byte(name), widths[i])
	}
	return append(dst, "FUNC\n"...)
}

// appendColumn appends text, spaces up to width, and one more.
func appendColumn(dst, text []byte, width int) []byte {
	dst = append(dst, text...)
	for n := utf8.RuneCount(text); n < width; n++ {
		dst = append(dst, ' ')
	}
	return append(dst, ' ')
}

func (w *lines) appendFrame(dst []byte, t *spans.Trace, i int) []byte {
	s := &t.Spans[i]
	f := t.FactsOf(s)
	for k, width := range linesWidths() {
		w.column = w.appendCell(w.column[:0], k, t, s, f)
		dst = appendColumn(dst, w.column, width)
	}
	dst = appendClean(dst, s.Name, w.o.ASCII)
	if int(t.DropSpan) == i {
		dst = append(appendClean(append(dst, '('), t.DropReason, w.o.ASCII), ')')
	}
	dst = append(appendExtras(dst, t, s, w.o.ASCII), '\n')
	for _, place := range stackOf(s) {
		dst = append(appendClean(dst, place, w.o.ASCII), '\n')
	}
	return dst
}

// appendCell appends the text of a column. f may be nil.
func (w *lines) appendCell(dst []byte, column int, t *spans.Trace, s *spans.Span, f *event.Facts) []byte {
	switch column {
	case 0:
		return strconv.AppendUint(append(dst, "0x"...), s.Frame.Skb, 16)
	case 1:
		return strconv.AppendUint(dst, uint64(s.Frame.CPU), 10)
	case 2:
		return w.appendProcess(dst, t, s)
	case 4:
		if s.Frame.Mark == 0 {
			return append(dst, '0')
		}
		return strconv.AppendUint(append(dst, "0x"...), uint64(s.Frame.Mark), 16)
	case 8:
		return strconv.AppendUint(dst, uint64(s.Frame.Len), 10)
	case 10:
		return appendClock(dst, s.EnterMonoNs+uint64(t.OffsetNs), "15:04:05.000000000", w.o.Location)
	case 11:
		if s.Frame.Flags&event.FrameEntryOnly != 0 {
			return append(dst, '-')
		}
		return appendDuration(dst, s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs), w.micro)
	default:
		if f == nil {
			return append(dst, '-')
		}
		return w.appendFactsCell(dst, column, f)
	}
}

// appendFactsCell appends the text of a column that facts fill.
func (w *lines) appendFactsCell(dst []byte, column int, f *event.Facts) []byte {
	switch column {
	case 3:
		return strconv.AppendUint(dst, uint64(f.NetNS), 10)
	case 5:
		if f.Ifindex == 0 {
			return append(dst, '0')
		}
		dst = append(appendClean(dst, fixedString(f.Interface), w.o.ASCII), ':')
		return strconv.AppendUint(dst, uint64(f.Ifindex), 10)
	case 6:
		const digits = "0123456789abcdef"
		e := f.EtherType
		return append(dst, '0', 'x', digits[e>>12], digits[e>>8&15], digits[e>>4&15], digits[e&15])
	case 7:
		return strconv.AppendUint(dst, uint64(f.MTU), 10)
	default:
		return appendPwruTuple(dst, f)
	}
}

// appendProcess appends name:tid of the thread that was current. A frame has
// only the number; the name is that of the same thread in the trace's facts.
func (w *lines) appendProcess(dst []byte, t *spans.Trace, s *spans.Span) []byte {
	tid := s.Frame.TID
	name := "?"
	switch {
	case tid == 0:
		name = "swapper/" + strconv.Itoa(int(s.Frame.CPU)) // the idle task of that CPU
	default:
		for i := range t.Facts {
			if t.Facts[i].TID == tid {
				name = fixedString(t.Facts[i].Comm)
				break
			}
		}
	}
	return strconv.AppendUint(append(appendClean(dst, name, w.o.ASCII), ':'), uint64(tid), 10)
}

// appendPwruTuple appends 10.0.0.1:80->10.0.0.2:1234(tcp), ports 0 where there
// are none.
func appendPwruTuple(dst []byte, f *event.Facts) []byte {
	if f.Flags&event.FactsTuple == 0 {
		return append(dst, '-')
	}
	var source, destination uint16
	if hasPorts(f) {
		source, destination = f.SourcePort, f.DestinationPort
	}
	dst = netip.AddrPortFrom(address(f.Family, f.Source), source).AppendTo(dst)
	dst = netip.AddrPortFrom(address(f.Family, f.Destination), destination).AppendTo(append(dst, "->"...))
	dst = append(dst, '(')
	switch f.Protocol {
	case protocolICMP:
		dst = append(dst, "icmp"...)
	case protocolTCP:
		dst = append(dst, "tcp"...)
	case protocolUDP:
		dst = append(dst, "udp"...)
	case protocolICMPv6:
		dst = append(dst, "icmp6"...)
	default:
		dst = strconv.AppendUint(dst, uint64(f.Protocol), 10)
	}
	return append(dst, ')')
}
