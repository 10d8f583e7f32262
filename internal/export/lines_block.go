package export

import (
	"strconv"
	"unicode/utf8"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// blockColumns names the columns of biosnoop's table
// (https://github.com/iovisor/bcc), in its order and with its queue time. TIME
// is when the request was issued, of a bio when it was submitted. STATUS, which
// biosnoop lacks, stands last.
func blockColumns() [9]string {
	return [9]string{"TIME", "COMM", "PID", "DISK", "T", "SECTOR", "BYTES", "QUE(ms)", "LAT(ms)"}
}

// blockWidths are the widths of these columns. What is wider moves the rest of
// its line.
func blockWidths() [9]int { return [9]int{15, 16, 7, 12, 1, 11, 8, 9, 9} }

func (w *lines) appendBlockHeader(dst []byte) []byte {
	widths := blockWidths()
	for k, name := range blockColumns() {
		dst = appendBlockColumn(dst, []byte(name), k, widths[k])
	}
	return append(dst, "STATUS\n"...)
}

// appendBlockColumn appends a cell; the times, which are the last columns,
// stand at its right.
func appendBlockColumn(dst, text []byte, column, width int) []byte {
	const firstTime = 7
	if column < firstTime {
		return appendColumn(dst, text, width)
	}
	dst = appendSpaces(dst, width-utf8.RuneCount(text))
	return append(append(dst, text...), ' ')
}

// appendRequest appends the line of a request or bio.
func (w *lines) appendRequest(dst []byte, t *spans.Trace, s *spans.Span) []byte {
	for k, width := range blockWidths() {
		w.column = w.appendBlockCell(w.column[:0], k, t, s)
		dst = appendBlockColumn(dst, w.column, k, width)
	}
	return append(w.appendStatus(dst, s), '\n')
}

// appendBlockCell appends the text of a column.
func (w *lines) appendBlockCell(dst []byte, column int, t *spans.Trace, s *spans.Span) []byte {
	switch column {
	case 0:
		return appendClock(dst, s.EnterMonoNs+uint64(t.OffsetNs), "15:04:05.000000", w.o.Location)
	case 1:
		return w.appendComm(dst, s)
	case 2:
		if a := attr(s, spans.KeyProcessPID); a != nil {
			return strconv.AppendInt(dst, a.Int, 10)
		}
		return append(dst, '-')
	case 3:
		return appendDevice(dst, s, w.o.ASCII)
	case 4:
		return append(dst, operationLetter(s))
	case 5:
		if a := attr(s, spans.KeyBlockSector); a != nil {
			return strconv.AppendUint(dst, uint64(a.Int), 10)
		}
		return append(dst, '-')
	case 6:
		return strconv.AppendUint(dst, uint64(s.Block.Bytes), 10)
	case 7:
		if a := attr(s, spans.KeyBlockQueueDurationNs); a != nil {
			return appendThousandths(dst, uint64(a.Int)/1000)
		}
		return append(dst, '-')
	default:
		if unfinished(s) {
			return append(dst, '-')
		}
		return appendThousandths(dst, (s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs))/1000)
	}
}

// appendComm appends the name of the thread that submitted it.
func (w *lines) appendComm(dst []byte, s *spans.Span) []byte {
	if attr(s, spans.KeyBlockWriteback) != nil {
		return append(dst, writeBack...)
	}
	if a := attr(s, spans.KeyThreadName); a != nil {
		return appendClean(dst, a.Str, w.o.ASCII)
	}
	return append(dst, '?')
}

func (w *lines) appendStatus(dst []byte, s *spans.Span) []byte {
	switch {
	case s.Block.Status != 0:
		return appendErrorType(dst, s, w.o.ASCII)
	case unfinished(s):
		return append(dst, "unfinished"...)
	default:
		return append(dst, "ok"...)
	}
}

// operationLetter gives one letter for an operation: read, write, flush,
// discard, secure erase, and N for any other, such as a command to a zone.
func operationLetter(s *spans.Span) byte {
	a := attr(s, spans.KeyBlockOperation)
	if a == nil {
		return 'N'
	}
	switch a.Str {
	case "read":
		return 'R'
	case "write", "write_same", "write_zeroes", "zone_append":
		return 'W'
	case "flush":
		return 'F'
	case "discard":
		return 'D'
	case "secure_erase":
		return 'E'
	default:
		return 'N'
	}
}
