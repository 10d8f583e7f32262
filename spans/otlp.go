package spans

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strings"
)

// Tags of the protobuf fields that we write: field number << 3 | wire type
// (https://github.com/open-telemetry/opentelemetry-proto, v1.11).
const (
	tagResourceSpansResource   = 1<<3 | 2
	tagResourceSpansScopeSpans = 2<<3 | 2
	tagResourceSpansSchemaURL  = 3<<3 | 2
	tagScopeSpansScope         = 1<<3 | 2
	tagScopeSpansSpans         = 2<<3 | 2
	tagScopeSpansSchemaURL     = 3<<3 | 2
	tagScopeName               = 1<<3 | 2
	tagScopeVersion            = 2<<3 | 2
	tagResourceAttributes      = 1<<3 | 2

	tagSpanTraceID    = 1<<3 | 2
	tagSpanSpanID     = 2<<3 | 2
	tagSpanTraceState = 3<<3 | 2
	tagSpanParentID   = 4<<3 | 2
	tagSpanName       = 5<<3 | 2
	tagSpanKind       = 6 << 3
	tagSpanStart      = 7<<3 | 1
	tagSpanEnd        = 8<<3 | 1
	tagSpanAttributes = 9<<3 | 2
	tagSpanEvents     = 11<<3 | 2
	tagSpanLinks      = 13<<3 | 2
	tagSpanStatus     = 15<<3 | 2
	tagSpanFlags      = 16<<3 | 5

	tagStatusMessage = 2<<3 | 2
	tagStatusCode    = 3 << 3

	tagEventTime       = 1<<3 | 1
	tagEventName       = 2<<3 | 2
	tagEventAttributes = 3<<3 | 2

	tagLinkTraceID    = 1<<3 | 2
	tagLinkSpanID     = 2<<3 | 2
	tagLinkAttributes = 4<<3 | 2
	tagLinkFlags      = 6<<3 | 5

	tagKeyValueKey   = 1<<3 | 2
	tagKeyValueValue = 2<<3 | 2
	tagValueString   = 1<<3 | 2
	tagValueBool     = 2 << 3
	tagValueInt      = 3 << 3
	tagValueDouble   = 4<<3 | 1
	tagValueArray    = 5<<3 | 2
	tagArrayValues   = 1<<3 | 2

	kindInternal = 1
	statusError  = 2
	// spanFlags says: sampled, and known not to have a remote parent.
	spanFlags = 0x101
)

// AppendOTLP appends the spans of a trace as the spans field of an OTLP
// ScopeSpans message. An Envelope makes a ResourceSpans of them.
func AppendOTLP(dst []byte, t *Trace) []byte {
	for i := range t.Spans {
		dst = AppendOTLPSpan(dst, t, i)
	}
	return dst
}

// AppendOTLPSpan appends the span at an index as AppendOTLP does; so a large
// trace can be spread over messages.
func AppendOTLPSpan(dst []byte, t *Trace, index int) []byte {
	s := &t.Spans[index]
	dst = append(dst, tagScopeSpansSpans, 0, 0)
	at := len(dst)
	dst = append(dst, tagSpanTraceID, 16)
	dst = append(dst, t.ID[:]...)
	dst = append(dst, tagSpanSpanID, 8)
	dst = append(dst, s.ID[:]...)
	dst = appendTraceState(dst, t)
	if s.Parent != ([8]byte{}) {
		dst = append(dst, tagSpanParentID, 8)
		dst = append(dst, s.Parent[:]...)
	}
	dst = appendString(dst, tagSpanName, s.Name)
	dst = append(dst, tagSpanKind, kindInternal, tagSpanStart)
	dst = binary.LittleEndian.AppendUint64(dst, s.StartUnixNs)
	dst = append(dst, tagSpanEnd)
	dst = binary.LittleEndian.AppendUint64(dst, s.EndUnixNs)
	for i := range s.Attrs {
		dst = t.appendAttr(dst, tagSpanAttributes, &s.Attrs[i])
	}
	for i := range s.Events {
		dst = t.appendEvent(dst, &s.Events[i])
	}
	for i := range s.Links {
		dst = t.appendLink(dst, &s.Links[i])
	}
	dst = appendStatus(dst, s)
	dst = append(dst, tagSpanFlags&0x7f|0x80, tagSpanFlags>>7)
	dst = binary.LittleEndian.AppendUint32(dst, spanFlags)
	return setLength(dst, at)
}

// appendTraceState leaves the field out where no sampler decided.
func appendTraceState(dst []byte, t *Trace) []byte {
	if t.Sampling == (Sampling{}) {
		return dst
	}
	dst = append(dst, tagSpanTraceState, 0)
	at := len(dst)
	dst = t.Sampling.AppendTraceState(dst)
	dst[at-1] = byte(len(dst) - at) // below 128
	return dst
}

func appendStatus(dst []byte, s *Span) []byte {
	dst = append(dst, tagSpanStatus)
	if !s.Error {
		return append(dst, 0) // present and empty, as the SDK sends it
	}
	n := 2
	if s.Message != "" {
		n += sizeString(len(s.Message))
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	if s.Message != "" {
		dst = appendString(dst, tagStatusMessage, s.Message)
	}
	return append(dst, tagStatusCode, statusError)
}

func (t *Trace) appendEvent(dst []byte, e *SpanEvent) []byte {
	dst = append(dst, tagSpanEvents, 0, 0)
	at := len(dst)
	dst = append(dst, tagEventTime)
	dst = binary.LittleEndian.AppendUint64(dst, e.UnixNs)
	dst = appendString(dst, tagEventName, e.Name)
	for i := range e.Attrs {
		dst = t.appendAttr(dst, tagEventAttributes, &e.Attrs[i])
	}
	return setLength(dst, at)
}

func (t *Trace) appendLink(dst []byte, l *Link) []byte {
	dst = append(dst, tagSpanLinks, 0, 0)
	at := len(dst)
	dst = append(dst, tagLinkTraceID, 16)
	dst = append(dst, l.TraceID[:]...)
	dst = append(dst, tagLinkSpanID, 8)
	dst = append(dst, l.SpanID[:]...)
	for i := range l.Attrs {
		dst = t.appendAttr(dst, tagLinkAttributes, &l.Attrs[i])
	}
	dst = append(dst, tagLinkFlags)
	dst = binary.LittleEndian.AppendUint32(dst, spanFlags)
	return setLength(dst, at)
}

// appendAttr appends a KeyValue message in a field of the given tag.
func (t *Trace) appendAttr(dst []byte, tag byte, a *Attr) []byte {
	key := keyNames[a.Key]
	switch a.Type {
	case TypeInt:
		dst = appendKey(dst, tag, key, 1+sizeVarint(uint64(a.Int)))
		dst = append(dst, tagValueInt)
		return binary.AppendUvarint(dst, uint64(a.Int))
	case TypeBool:
		dst = appendKey(dst, tag, key, 2)
		return append(dst, tagValueBool, byte(a.Int&1))
	case TypeHex:
		dst = appendKey(dst, tag, key, 18)
		dst = append(dst, tagValueString, 16)
		return appendHex64(dst, uint64(a.Int))
	case TypeList:
		return appendList(dst, tag, key, t.List(*a))
	default:
		dst = appendKey(dst, tag, key, sizeString(len(a.Str)))
		return appendString(dst, tagValueString, a.Str)
	}
}

// appendKey appends a KeyValue up to its AnyValue of n bytes.
func appendKey(dst []byte, tag byte, key string, n int) []byte {
	if total := 4 + len(key) + n; total < 1<<7 { // every length is one byte
		dst = append(dst, tag, byte(total), tagKeyValueKey, byte(len(key)))
		dst = append(dst, key...)
		return append(dst, tagKeyValueValue, byte(n))
	}
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(sizeString(len(key))+sizeString(n)))
	dst = appendString(dst, tagKeyValueKey, key)
	dst = append(dst, tagKeyValueValue)
	return binary.AppendUvarint(dst, uint64(n))
}

func appendList(dst []byte, tag byte, key string, list []string) []byte {
	array := 0
	for _, s := range list {
		array += sizeString(sizeString(len(s)))
	}
	dst = appendKey(dst, tag, key, sizeString(array))
	dst = append(dst, tagValueArray)
	dst = binary.AppendUvarint(dst, uint64(array))
	for _, s := range list {
		dst = append(dst, tagArrayValues)
		dst = binary.AppendUvarint(dst, uint64(sizeString(len(s))))
		dst = appendString(dst, tagValueString, s)
	}
	return dst
}

func appendString(dst []byte, tag byte, s string) []byte {
	if len(s) < 1<<7 {
		return append(append(dst, tag, byte(len(s))), s...)
	}
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// sizeString is the size of a field of n bytes with its one-byte tag.
func sizeString(n int) int { return 1 + sizeVarint(uint64(n)) + n }

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// setLength writes the length of the message that begins at an offset into the
// two bytes kept before it. Most spans need exactly two; for the others the
// message moves.
func setLength(dst []byte, at int) []byte {
	n := len(dst) - at
	if n >= 1<<7 && n < 1<<14 {
		dst[at-2], dst[at-1] = byte(n)|0x80, byte(n>>7)
		return dst
	}
	size := sizeVarint(uint64(n))
	if size > 2 {
		dst = append(dst, make([]byte, size-2)...)
	}
	copy(dst[at-2+size:], dst[at:at+n])
	dst = dst[:at-2+size+n]
	binary.PutUvarint(dst[at-2:at-2+size], uint64(n))
	return dst
}

func appendHex64(dst []byte, v uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[v>>shift&15])
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// Envelope is what surrounds the spans of one message: the resource and the
// scope, encoded once. A message is built in one buffer: Reserve room at its
// front, append spans, Close.
type Envelope struct {
	resource []byte // ResourceSpans.resource, whole field
	scope    []byte // ScopeSpans.scope, whole field
	tail     []byte // ScopeSpans.schema_url
	end      []byte // ResourceSpans.schema_url
	json     jsonEnvelope
	layers   []*Envelope // by Layer; nil when all spans are of one resource
}

// NewEnvelope encodes a resource and a scope.
func NewEnvelope(r Resource, s Scope) *Envelope {
	r, s = validUTF8(r, s)
	e := &Envelope{json: newJSONEnvelope(r, s)}
	var body []byte
	for i := range r.Attrs {
		body = appendResourceAttr(body, &r.Attrs[i])
	}
	e.resource = appendString(nil, tagResourceSpansResource, string(body))
	body = body[:0]
	if s.Name != "" {
		body = appendString(body, tagScopeName, s.Name)
	}
	if s.Version != "" {
		body = appendString(body, tagScopeVersion, s.Version)
	}
	e.scope = appendString(nil, tagScopeSpansScope, string(body))
	if s.SchemaURL != "" {
		e.tail = appendString(nil, tagScopeSpansSchemaURL, s.SchemaURL)
	}
	if r.SchemaURL != "" {
		e.end = appendString(nil, tagResourceSpansSchemaURL, r.SchemaURL)
	}
	return e
}

// validUTF8 repairs what comes from the environment: receivers refuse a whole
// message for one string that is not UTF-8.
func validUTF8(r Resource, s Scope) (Resource, Scope) {
	fix := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	attrs := make([]ResourceAttr, len(r.Attrs))
	for i, a := range r.Attrs {
		a.Key, a.Str = fix(a.Key), fix(a.Str)
		list := make([]string, len(a.List))
		for k := range a.List {
			list[k] = fix(a.List[k])
		}
		a.List = list
		attrs[i] = a
	}
	return Resource{Attrs: attrs, SchemaURL: fix(r.SchemaURL)},
		Scope{Name: fix(s.Name), Version: fix(s.Version), SchemaURL: fix(s.SchemaURL)}
}

// front is the room that Close needs before the spans.
func (e *Envelope) front() int { return len(e.resource) + 1 + 5 + len(e.scope) }

// Overhead is by how many bytes, at most, a closed message is larger than its
// spans.
func (e *Envelope) Overhead() int {
	if e.layers != nil {
		return e.layersOverhead()
	}
	return e.front() + len(e.tail) + len(e.end)
}

// Reserve begins a message in a buffer whose old content is given up.
func (e *Envelope) Reserve(buf []byte) []byte {
	if cap(buf) < e.front() {
		return make([]byte, e.front(), 1<<16)
	}
	return buf[:e.front()]
}

// Close completes a message begun by Reserve. It returns the content of a
// ResourceSpans message, a part of buf, and buf itself, grown.
func (e *Envelope) Close(buf []byte) (resourceSpans, grown []byte) {
	front := e.front()
	buf = append(buf, e.tail...)
	n := uint64(len(e.scope) + len(buf) - front)
	buf = append(buf, e.end...)
	start := front - len(e.scope)
	copy(buf[start:], e.scope)
	start -= sizeVarint(n)
	binary.PutUvarint(buf[start:], n)
	start--
	buf[start] = tagResourceSpansScopeSpans
	start -= len(e.resource)
	copy(buf[start:], e.resource)
	return buf[start:], buf
}

func appendResourceAttr(dst []byte, a *ResourceAttr) []byte {
	switch a.Type {
	case TypeInt:
		dst = appendKey(dst, tagResourceAttributes, a.Key, 1+sizeVarint(uint64(a.Int)))
		return binary.AppendUvarint(append(dst, tagValueInt), uint64(a.Int))
	case TypeBool:
		dst = appendKey(dst, tagResourceAttributes, a.Key, 2)
		return append(dst, tagValueBool, byte(a.Int&1))
	case TypeDouble:
		dst = appendKey(dst, tagResourceAttributes, a.Key, 9)
		return binary.LittleEndian.AppendUint64(append(dst, tagValueDouble), math.Float64bits(a.Dbl))
	case TypeList:
		return appendList(dst, tagResourceAttributes, a.Key, a.List)
	default:
		dst = appendKey(dst, tagResourceAttributes, a.Key, sizeString(len(a.Str)))
		return appendString(dst, tagValueString, a.Str)
	}
}
