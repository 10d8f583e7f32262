package spans

import "encoding/binary"

// Layer tells spans of one trace apart that are to look like services of their own:
// 0 is the trace's own service, that of its root and of block requests; then come
// the stages, LayerOther and LayerWait.
type Layer uint8

// The layers that are no stages.
const (
	LayerTrace Layer = 0
	LayerOther Layer = Layer(stageCount) // a frame without a stage
	LayerWait  Layer = Layer(stageCount) + 1
	layerCount       = Layer(stageCount) + 2
)

// LayerOf gives the layer of the span at an index.
func (t *Trace) LayerOf(index int) Layer {
	s := &t.Spans[index]
	switch {
	case index == 0 || t.Block:
		return LayerTrace
	case s.Wait:
		return LayerWait
	case s.Stage == StageUnknown:
		return LayerOther
	default:
		return Layer(s.Stage)
	}
}

// serviceName is what the layer's service is called, "" for LayerTrace: as the
// trace's.
func (l Layer) serviceName() string {
	switch {
	case l == LayerTrace:
		return ""
	case l == LayerWait:
		return "kernel wait"
	case l >= LayerOther:
		return "kernel"
	default:
		return "kernel " + Stage(l).String()
	}
}

// serviceNameKey is the attribute of a resource by which receivers group spans.
const serviceNameKey = "service.name"

// NewLayeredEnvelope is NewEnvelope with a resource for each layer: they differ in
// service.name only.
func NewLayeredEnvelope(r Resource, s Scope) *Envelope {
	e := NewEnvelope(r, s)
	for l := range layerCount {
		e.layers = append(e.layers, NewEnvelope(r.named(l.serviceName()), s))
	}
	return e
}

// named is a copy of r with another service.name, r itself without one.
func (r Resource) named(service string) Resource {
	if service == "" {
		return r
	}
	named := Resource{SchemaURL: r.SchemaURL}
	for _, a := range r.Attrs {
		if a.Key != serviceNameKey {
			named.Attrs = append(named.Attrs, a)
		}
	}
	named.Attrs = append(named.Attrs, ResourceAttr{Key: serviceNameKey, Type: TypeString, Str: service})
	return named
}

// Layered says whether the spans of a message belong to several resources.
func (e *Envelope) Layered() bool { return e.layers != nil }

// LayerEnd says where a span of a layer ends in a buffer: it begins where the one
// before it ends, the first at the end of the room that Reserve gave.
type LayerEnd struct {
	Layer  Layer
	Offset int
}

// CloseLayers is Close for an envelope that is Layered: the content of one
// ResourceSpans message for each layer that has spans, in the order of the layers;
// spans of one layer keep theirs. Together they are at most Overhead larger than the
// spans. buf is only read.
func (e *Envelope) CloseLayers(buf []byte, ends []LayerEnd) [][]byte {
	var sizes [layerCount]int
	from := e.front()
	for _, end := range ends {
		sizes[end.Layer] += end.Offset - from
		from = end.Offset
	}
	var messages [][]byte
	for l := range layerCount {
		if sizes[l] == 0 {
			continue
		}
		envelope := e.layers[l]
		message := make([]byte, 0, sizes[l]+envelope.Overhead())
		message = append(message, envelope.resource...)
		message = append(message, tagResourceSpansScopeSpans)
		message = binary.AppendUvarint(message, uint64(len(envelope.scope)+sizes[l]+len(envelope.tail)))
		message = append(message, envelope.scope...)
		from := e.front()
		for _, end := range ends {
			if end.Layer == l {
				message = append(message, buf[from:end.Offset]...)
			}
			from = end.Offset
		}
		message = append(message, envelope.tail...)
		messages = append(messages, append(message, envelope.end...))
	}
	return messages
}

// layersOverhead is Overhead for an envelope that is Layered, with the tag and the
// length that a request puts before each further ResourceSpans.
func (e *Envelope) layersOverhead() int {
	const field = 1 + 5
	all := 0
	for _, envelope := range e.layers {
		all += envelope.Overhead() + field
	}
	return all
}

// appendLayeredJSON is AppendJSON for an envelope that is Layered.
func (e *Envelope) appendLayeredJSON(dst []byte, t *Trace) []byte {
	const open, closing = `{"resourceSpans":[`, "]}\n"
	dst = append(dst, open...)
	started := false
	for l := range layerCount {
		json := &e.layers[l].json
		some := false
		for i := range t.Spans {
			if t.LayerOf(i) != l {
				continue
			}
			switch {
			case some:
				dst = append(dst, ',')
			default:
				if started {
					dst = append(dst, ',')
				}
				dst = append(dst, json.head[len(open):]...)
			}
			some, started = true, true
			dst = json.appendSpan(dst, t, &t.Spans[i], nil)
		}
		if some {
			dst = append(dst, json.tail[:len(json.tail)-len(closing)]...)
		}
	}
	return append(dst, closing...)
}
