package export

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// IANA protocol numbers.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
)

// signs are the characters of a text output beyond letters.
type signs struct {
	arrow, micro, ellipsis         string
	branch, lastBranch, bar, cross string
}

func signsFor(ascii bool) signs {
	if ascii {
		return signs{
			arrow: "->", micro: "us", ellipsis: "...",
			branch: "|-", lastBranch: "`-", bar: "| ", cross: "!",
		}
	}
	return signs{
		arrow: "→", micro: "µs", ellipsis: "…",
		branch: "├─", lastBranch: "└─", bar: "│ ", cross: "✗",
	}
}

// appendDuration appends 12.345µs, 12.345ms or 12.345s.
func appendDuration(dst []byte, ns uint64, micro string) []byte {
	unit, suffix := durationUnit(ns, micro)
	dst = appendThousandths(dst, ns/(unit/1000))
	return append(dst, suffix...)
}

// durationUnit gives the unit, in nanoseconds and by name, that suits a
// duration.
func durationUnit(ns uint64, micro string) (unit uint64, suffix string) {
	switch {
	case ns >= uint64(time.Second):
		return uint64(time.Second), "s"
	case ns >= uint64(time.Millisecond):
		return uint64(time.Millisecond), "ms"
	default:
		return uint64(time.Microsecond), micro
	}
}

// appendThousandths appends 12345 as 12.345.
func appendThousandths(dst []byte, n uint64) []byte {
	dst = strconv.AppendUint(dst, n/1000, 10)
	return append(dst, '.', byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
}

// appendClock appends a CLOCK_REALTIME time of day.
func appendClock(dst []byte, unixNs uint64, layout string, loc *time.Location) []byte {
	return time.Unix(0, int64(unixNs)).In(loc).AppendFormat(dst, layout)
}

// appendClean appends a string that others chose (an interface, a thread, a
// namespace) so that it cannot move the cursor or end the line.
func appendClean(dst []byte, s string, ascii bool) []byte {
	for s != "" {
		if n := plainRun(s); n > 0 {
			dst, s = append(dst, s[:n]...), s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1, r < 0x20, r == 0x7f:
			dst = appendHexByte(append(dst, `\x`...), s[0])
		case r >= 0x80 && (ascii || !unicode.IsPrint(r)):
			q := strconv.QuoteRuneToASCII(r)
			dst = append(dst, q[1:len(q)-1]...)
		default:
			dst = append(dst, s[:n]...)
		}
		s = s[n:]
	}
	return dst
}

func appendHexByte(dst []byte, b byte) []byte {
	const digits = "0123456789abcdef"
	return append(dst, digits[b>>4], digits[b&15])
}

// fixedString gives the text before the first NUL.
func fixedString(b [16]byte) string {
	if i := bytes.IndexByte(b[:], 0); i >= 0 {
		return string(b[:i])
	}
	return string(b[:])
}

// address gives an address of facts whose tuple was read.
func address(family uint8, a [16]byte) netip.Addr {
	if family == 4 {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(a)
}

// hasPorts reports whether a packet has ports to show.
func hasPorts(f *event.Facts) bool {
	return f.Flags&event.FactsPorts != 0 && f.Protocol != protocolICMP && f.Protocol != protocolICMPv6
}

// appendEndpoint appends an address, with its port if the packet has ports.
func appendEndpoint(dst []byte, f *event.Facts, a [16]byte, port uint16) []byte {
	addr := address(f.Family, a)
	if hasPorts(f) {
		return netip.AddrPortFrom(addr, port).AppendTo(dst)
	}
	return addr.AppendTo(dst)
}

// attr gives an attribute of a span, nil when it has none of that key.
func attr(s *spans.Span, k spans.Key) *spans.Attr { return attrOf(s.Attrs, k) }

// attrOf is attr for any attributes.
func attrOf(attrs []spans.Attr, k spans.Key) *spans.Attr {
	for i := range attrs {
		if attrs[i].Key == k {
			return &attrs[i]
		}
	}
	return nil
}

// appendProcess appends the thread and process that attributes name, dd[812], or
// nothing.
func appendProcess(dst []byte, attrs []spans.Attr, ascii bool) []byte {
	pid := attrOf(attrs, spans.KeyProcessPID)
	if pid == nil {
		return dst
	}
	if a := attrOf(attrs, spans.KeyThreadName); a != nil {
		dst = appendClean(dst, a.Str, ascii)
	}
	return append(strconv.AppendInt(append(dst, '['), pid.Int, 10), ']')
}
