package spans

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// jsonEnvelope is what stands before and after the spans of a line, and what
// stands before the value of an attribute behind another one, by key and type.
type jsonEnvelope struct {
	head, tail []byte
	starts     [keyCount][TypeList + 1]string
}

func newJSONEnvelope(r Resource, s Scope) jsonEnvelope {
	h := append([]byte(nil), `{"resourceSpans":[{"resource":{"attributes":[`...)
	for i := range r.Attrs {
		if i > 0 {
			h = append(h, ',')
		}
		h = appendJSONResourceAttr(h, &r.Attrs[i])
	}
	h = append(h, `]},"scopeSpans":[{"scope":{"name":`...)
	h = appendJSONString(h, s.Name)
	if s.Version != "" {
		h = append(h, `,"version":`...)
		h = appendJSONString(h, s.Version)
	}
	h = append(h, `},"spans":[`...)
	e := append([]byte(nil), ']')
	e = appendSchemaURL(e, s.SchemaURL)
	e = append(e, `}]`...)
	e = appendSchemaURL(e, r.SchemaURL)
	e = append(e, `}]}`...)
	j := jsonEnvelope{head: h, tail: append(e, '\n')}
	for k, name := range keyNames {
		start := `,{"key":"` + name + `","value":{` // keys need no escapes
		j.starts[k] = [...]string{
			TypeString: start + `"stringValue":"`,
			TypeInt:    start + `"intValue":"`,
			TypeBool:   start + `"boolValue":`,
			TypeHex:    start + `"stringValue":"`,
			TypeList:   start + `"arrayValue":{"values":[`,
		}
	}
	return j
}

func appendSchemaURL(dst []byte, url string) []byte {
	if url == "" {
		return dst
	}
	return appendJSONString(append(dst, `,"schemaUrl":`...), url)
}

// AppendJSON appends a trace as one line of OTLP/JSON: a TracesData message
// with ids in hexadecimal and 64-bit numbers as strings
// (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), ended by
// a newline.
func (e *Envelope) AppendJSON(dst []byte, t *Trace) []byte {
	if e.layers != nil {
		return e.appendLayeredJSON(dst, t)
	}
	dst = append(dst, e.json.head...)
	for i := range t.Spans {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.json.appendSpan(dst, t, &t.Spans[i], nil)
	}
	return append(dst, e.json.tail...)
}

// appendSpan appends a span. memo may hold the attributes of an earlier one.
func (e *jsonEnvelope) appendSpan(dst []byte, t *Trace, s *Span, memo *attrMemo) []byte {
	dst = append(dst, `{"traceId":"`...)
	dst = appendHexBytes(dst, t.ID[:])
	dst = append(dst, `","spanId":"`...)
	dst = appendHexBytes(dst, s.ID[:])
	if s.Parent != ([8]byte{}) {
		dst = append(dst, `","parentSpanId":"`...)
		dst = appendHexBytes(dst, s.Parent[:])
	}
	if t.Sampling != (Sampling{}) {
		dst = t.Sampling.AppendTraceState(append(dst, `","traceState":"`...))
	}
	dst = append(dst, `","flags":257,"name":`...) // spanFlags
	dst = appendJSONString(dst, s.Name)
	dst = append(dst, `,"kind":1,"startTimeUnixNano":"`...)
	dst = strconv.AppendUint(dst, s.StartUnixNs, 10)
	dst = append(dst, `","endTimeUnixNano":"`...)
	dst = strconv.AppendUint(dst, s.EndUnixNs, 10)
	dst = append(dst, `","attributes":`...)
	if memo != nil {
		dst = memo.appendAttrs(dst, e, t, s.Attrs)
	} else {
		dst = e.appendAttrs(dst, t, s.Attrs)
	}
	if len(s.Events) > 0 {
		dst = e.appendEvents(dst, t, s.Events)
	}
	if len(s.Links) > 0 {
		dst = e.appendLinks(dst, t, s.Links)
	}
	if !s.Error {
		return append(dst, `,"status":{}}`...)
	}
	dst = append(dst, `,"status":{"code":2,"message":`...)
	dst = appendJSONString(dst, s.Message)
	return append(dst, `}}`...)
}

func (e *jsonEnvelope) appendEvents(dst []byte, t *Trace, events []SpanEvent) []byte {
	dst = append(dst, `,"events":[`...)
	for i := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"timeUnixNano":"`...)
		dst = strconv.AppendUint(dst, events[i].UnixNs, 10)
		dst = append(dst, `","name":`...)
		dst = appendJSONString(dst, events[i].Name)
		dst = append(dst, `,"attributes":`...)
		dst = e.appendAttrs(dst, t, events[i].Attrs)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func (e *jsonEnvelope) appendLinks(dst []byte, t *Trace, links []Link) []byte {
	dst = append(dst, `,"links":[`...)
	for i := range links {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"traceId":"`...)
		dst = appendHexBytes(dst, links[i].TraceID[:])
		dst = append(dst, `","spanId":"`...)
		dst = appendHexBytes(dst, links[i].SpanID[:])
		dst = append(dst, `","flags":257,"attributes":`...)
		dst = e.appendAttrs(dst, t, links[i].Attrs)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func (e *jsonEnvelope) appendAttrs(dst []byte, t *Trace, attrs []Attr) []byte {
	dst = append(dst, '[')
	for i := range attrs {
		dst = e.appendAttr(dst, t, attrs, i)
	}
	return append(dst, ']')
}

// appendAttr appends attribute i, with the comma that parts it from the one before.
func (e *jsonEnvelope) appendAttr(dst []byte, t *Trace, attrs []Attr, i int) []byte {
	a := &attrs[i]
	start := e.starts[a.Key][a.Type]
	if i == 0 {
		start = start[1:]
	}
	dst = append(dst, start...)
	switch a.Type {
	case TypeInt:
		return append(strconv.AppendInt(dst, a.Int, 10), `"}}`...)
	case TypeBool:
		return append(strconv.AppendBool(dst, a.Int&1 == 1), `}}`...)
	case TypeHex:
		return append(appendHex64(dst, uint64(a.Int)), `"}}`...)
	case TypeList:
		return append(appendJSONListValues(dst, t.List(*a)), `}}`...)
	default:
		return append(appendEscaped(dst, a.Str), `"}}`...)
	}
}

func appendJSONInt(dst []byte, v int64) []byte {
	dst = append(dst, `"intValue":"`...)
	dst = strconv.AppendInt(dst, v, 10)
	return append(dst, '"')
}

func appendJSONBool(dst []byte, v int64) []byte {
	return strconv.AppendBool(append(dst, `"boolValue":`...), v&1 == 1)
}

func appendJSONList(dst []byte, list []string) []byte {
	return appendJSONListValues(append(dst, `"arrayValue":{"values":[`...), list)
}

func appendJSONListValues(dst []byte, list []string) []byte {
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"stringValue":`...)
		dst = appendJSONString(dst, s)
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}

func appendJSONResourceAttr(dst []byte, a *ResourceAttr) []byte {
	dst = appendJSONString(append(dst, `{"key":`...), a.Key)
	dst = append(dst, `,"value":{`...)
	switch a.Type {
	case TypeInt:
		dst = appendJSONInt(dst, a.Int)
	case TypeBool:
		dst = appendJSONBool(dst, a.Int)
	case TypeDouble:
		dst = appendJSONDouble(dst, a.Dbl)
	case TypeList:
		dst = appendJSONList(dst, a.List)
	default:
		dst = appendJSONString(append(dst, `"stringValue":`...), a.Str)
	}
	return append(dst, `}}`...)
}

// appendJSONDouble writes the values that JSON has no numbers for the way that
// the JSON mapping of protobuf does.
func appendJSONDouble(dst []byte, v float64) []byte {
	dst = append(dst, `"doubleValue":`...)
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	default:
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
}

func appendHexBytes(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

// appendJSONString appends a quoted string; bytes that are not UTF-8 become
// U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// appendEscaped appends what stands between the quotes of a JSON string.
func appendEscaped(dst []byte, s string) []byte {
	plain := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[plain:i]...)
		dst = appendEscape(dst, c)
		i += size
		plain = i
	}
	return append(dst, s[plain:]...)
}

// appendEscape escapes a byte that cannot stand in a JSON string.
func appendEscape(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, '\\', 'n')
	case c == '\t':
		return append(dst, '\\', 't')
	case c == '\r':
		return append(dst, '\\', 'r')
	case c >= utf8.RuneSelf:
		return append(dst, "\uFFFD"...)
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}
