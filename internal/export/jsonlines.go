package export

import (
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// jsonLines writes one JSON object per span, the root of a trace first. The
// members, in this order; those marked * are left out when they have no value:
//
//	trace_id, span_id    hexadecimal
//	parent_span_id*      hexadecimal; the root has none; of a summary the application's span
//	trace_state*         with --sample: "ot=th:c;rv:89abcdef012345"
//	name                 of the function; of the root: "packet tx icmp", "block write"
//	depth                0 for the root, 1 for the spans below it …
//	start_unix_ns        CLOCK_REALTIME
//	end_unix_ns          CLOCK_REALTIME, at least start_unix_ns+1
//	enter_mono_ns        CLOCK_MONOTONIC, exact
//	duration_ns          exact
//	offset_ns            enter_mono_ns less the root's; negative for a wait before a block request
//	error*               true when the packet was dropped here, or the block request failed
//	message*             of the error
//	attributes           by their names in docs/spans.md: string, number, true or list of strings
//	events*              list of {name, unix_ns, attributes}
//	links*               list of {trace_id, span_id, attributes}
type jsonLines struct{}

func (jsonLines) appendTrace(dst []byte, t *spans.Trace) []byte {
	for i := range t.Spans {
		dst = append(appendJSONSpan(dst, t, &t.Spans[i]), '\n')
	}
	return dst
}

func appendJSONSpan(dst []byte, t *spans.Trace, s *spans.Span) []byte {
	dst = hex.AppendEncode(append(dst, `{"trace_id":"`...), t.ID[:])
	dst = hex.AppendEncode(append(dst, `","span_id":"`...), s.ID[:])
	if s.ParentIndex >= 0 || t.Summary {
		dst = hex.AppendEncode(append(dst, `","parent_span_id":"`...), s.Parent[:])
	}
	if t.Sampling != (spans.Sampling{}) {
		dst = t.Sampling.AppendTraceState(append(dst, `","trace_state":"`...))
	}
	dst = appendJSONString(append(dst, `","name":`...), s.Name)
	dst = strconv.AppendInt(append(dst, `,"depth":`...), int64(s.Depth), 10)
	dst = appendJSONUint(dst, "start_unix_ns", s.StartUnixNs)
	dst = appendJSONUint(dst, "end_unix_ns", s.EndUnixNs)
	dst = appendJSONUint(dst, "enter_mono_ns", s.EnterMonoNs)
	dst = appendJSONUint(dst, "duration_ns", s.ExitMonoNs-min(s.ExitMonoNs, s.EnterMonoNs))
	dst = strconv.AppendInt(append(dst, `,"offset_ns":`...), int64(s.EnterMonoNs-t.Spans[0].EnterMonoNs), 10)
	if s.Error {
		dst = append(dst, `,"error":true`...)
	}
	if s.Message != "" {
		dst = appendJSONString(append(dst, `,"message":`...), s.Message)
	}
	dst = appendJSONAttrs(dst, t, s.Attrs)
	if len(s.Events) > 0 {
		dst = appendJSONEvents(dst, t, s.Events)
	}
	if len(s.Links) > 0 {
		dst = appendJSONLinks(dst, t, s.Links)
	}
	return append(dst, '}')
}

// appendJSONUint appends ,"name":v.
func appendJSONUint(dst []byte, name string, v uint64) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":`...)
	return strconv.AppendUint(dst, v, 10)
}

// appendJSONAttrs appends ,"attributes":{…}.
func appendJSONAttrs(dst []byte, t *spans.Trace, attrs []spans.Attr) []byte {
	dst = append(dst, `,"attributes":{`...)
	for i := range attrs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, attrs[i].Key.String()), ':')
		dst = appendJSONValue(dst, t, &attrs[i])
	}
	return append(dst, '}')
}

func appendJSONValue(dst []byte, t *spans.Trace, a *spans.Attr) []byte {
	switch a.Type {
	case spans.TypeInt:
		return strconv.AppendInt(dst, a.Int, 10)
	case spans.TypeBool:
		return strconv.AppendBool(dst, a.Int != 0)
	case spans.TypeHex:
		dst = append(dst, '"')
		for shift := 56; shift >= 0; shift -= 8 {
			dst = appendHexByte(dst, byte(uint64(a.Int)>>shift))
		}
		return append(dst, '"')
	case spans.TypeList:
		dst = append(dst, '[')
		for i, s := range t.List(*a) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSONString(dst, s)
		}
		return append(dst, ']')
	default:
		return appendJSONString(dst, a.Str)
	}
}

func appendJSONEvents(dst []byte, t *spans.Trace, events []spans.SpanEvent) []byte {
	dst = append(dst, `,"events":[`...)
	for i := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		e := &events[i]
		dst = appendJSONString(append(dst, `{"name":`...), e.Name)
		dst = appendJSONUint(dst, "unix_ns", e.UnixNs)
		dst = append(appendJSONAttrs(dst, t, e.Attrs), '}')
	}
	return append(dst, ']')
}

func appendJSONLinks(dst []byte, t *spans.Trace, links []spans.Link) []byte {
	dst = append(dst, `,"links":[`...)
	for i := range links {
		if i > 0 {
			dst = append(dst, ',')
		}
		k := &links[i]
		dst = hex.AppendEncode(append(dst, `{"trace_id":"`...), k.TraceID[:])
		dst = hex.AppendEncode(append(dst, `","span_id":"`...), k.SpanID[:])
		dst = append(appendJSONAttrs(append(dst, '"'), t, k.Attrs), '}')
	}
	return append(dst, ']')
}

// appendJSONString appends s as a JSON string (RFC 8259 7). Bytes that are no
// UTF-8 become U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for s != "" {
		if n := plainRun(s); n > 0 {
			dst, s = append(dst, s[:n]...), s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, `\ufffd`...)
		case r < 0x20 || r == 0x7f:
			dst = appendHexByte(append(dst, `\u00`...), byte(r))
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		default:
			dst = append(dst, s[:n]...)
		}
		s = s[n:]
	}
	return append(dst, '"')
}

// plainRun gives the length of what s begins with that is printable ASCII and
// stands for itself in JSON.
func plainRun(s string) int {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}
