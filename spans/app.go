package spans

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// maxApps bounds the spans of applications that one trace names.
const maxApps = 8

// appSpan is a span of an application that has to do with a trace.
type appSpan struct {
	event.AppContext
	source event.AppSource
	kind   string // of the link
}

// apps finds and names spans of applications. Its memory is reused.
type apps struct {
	none  bool // they are not asked for
	found []appSpan
	hex   map[[16]byte]string // of trace ids, remembered so that few strings are made
}

func newApps(none bool) apps { return apps{none: none, hex: map[[16]byte]string{}} }

// findApps finds the spans of whoever sent the packet, or read it: senders first.
func (b *Builder) findApps(j *journey.Journey) {
	b.found = b.found[:0]
	if len(j.Apps) == 0 || b.none {
		return
	}
	arrival := b.arrival()
	for i := range j.Apps {
		// The thread that a packet's arrival interrupts has not sent it.
		a := &j.Apps[i]
		if a.What == event.AppWrites || a.What == event.AppSends && a.AtMonoNs < arrival {
			b.addApp(a, "sent_by")
		}
	}
	for i := range j.Apps {
		if a := &j.Apps[i]; a.What == event.AppReads {
			b.addApp(a, "read_by")
		}
	}
	b.trace.Correlated = len(b.found) > 0
}

// addApp adds the span in which an application did something, once.
func (b *Builder) addApp(a *event.App, kind string) {
	if a.Source == 0 || !a.Context.Valid() || len(b.found) >= maxApps {
		return
	}
	for i := range b.found {
		if b.found[i].AppContext == a.Context && b.found[i].kind == kind {
			return
		}
	}
	b.found = append(b.found, appSpan{AppContext: a.Context, source: a.Source, kind: kind})
}

// appAttrs names the first of the spans on the root, for receivers that show no
// attributes of links, or cannot search for links.
func (b *Builder) appAttrs() {
	if len(b.found) > 0 {
		b.attrs = b.appendTo(b.attrs, &b.found[0])
	}
}

// appendTo appends the attributes that name a span.
func (a *apps) appendTo(dst []Attr, s *appSpan) []Attr {
	id, ok := a.hex[s.TraceID]
	if !ok {
		id = remember(a.hex, s.TraceID, hex.EncodeToString(s.TraceID[:]))
	}
	return append(dst,
		StringAttr(KeyAppTraceID, id),
		HexAttr(KeyAppSpanID, binary.BigEndian.Uint64(s.SpanID[:])),
		StringAttr(KeyAppSource, s.source.String()))
}

// linkToApp makes the link to a span of an application.
func (b *Builder) linkToApp(s *appSpan) Link {
	from := len(b.attrs)
	b.add(StringAttr(KeyLinkKind, s.kind))
	b.add(StringAttr(KeyAppSource, s.source.String()))
	return Link{TraceID: s.TraceID, SpanID: s.SpanID, Attrs: b.cut(from)}
}
