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
	flags  event.AppFlags
	kind   string // of the link
}

// sampled says whether the application exports the span, as far as is known.
func (s *appSpan) sampled() bool { return s.flags&event.AppUnsampled == 0 }

// apps finds and names spans of applications. Its memory is reused.
type apps struct {
	none  bool // they are not asked for
	found []appSpan
	hex   map[[16]byte]string // of trace ids, remembered so that few strings are made
}

func newApps(none bool) apps { return apps{none: none, hex: map[[16]byte]string{}} }

// findApps finds the spans of whoever sent the packet, or what it answers, and of
// whoever read it: senders first. What packets say of themselves counts only where
// nobody on this machine says who sent it.
func (b *Builder) findApps(j *journey.Journey) {
	b.found = b.found[:0]
	if len(j.Apps) == 0 || b.none {
		return
	}
	arrival := b.arrival()
	b.addApps(j, "sent_by", func(a *event.App) bool {
		// The thread that a packet's arrival interrupts has not sent it, nor has the
		// socket that it came to.
		return a.What == event.AppWrites || a.What == event.AppSends && a.AtMonoNs < arrival
	})
	if len(b.found) == 0 {
		for _, source := range [...]event.AppSource{event.AppPayload, event.AppTCPOption} {
			b.addApps(j, "sent_by", func(a *event.App) bool { return a.What == event.AppRequests && a.Source == source })
		}
		b.addApps(j, "answers", func(a *event.App) bool { return a.What == event.AppAnswers })
	}
	b.addApps(j, "read_by", func(a *event.App) bool { return a.What == event.AppReads })
	b.trace.setApps(b.found)
}

// addApps adds the spans of what an application did, where that counts.
func (b *Builder) addApps(j *journey.Journey, kind string, counts func(*event.App) bool) {
	for i := range j.Apps {
		if a := &j.Apps[i]; a.Source != 0 && counts(a) {
			b.addApp(appSpan{AppContext: a.Context, source: a.Source, flags: a.Flags, kind: kind}, maxApps)
		}
	}
}

// addApp adds a span, once, when there are not so many yet. It is unsampled where any
// source says so: most do not tell.
func (a *apps) addApp(s appSpan, most int) {
	if !s.Valid() {
		return
	}
	for i := range a.found {
		if known := &a.found[i]; known.AppContext == s.AppContext && known.kind == s.kind {
			known.flags |= s.flags
			return
		}
	}
	if len(a.found) < most {
		a.found = append(a.found, s)
	}
}

// setApps notes the spans of applications that the root has links to, and who vouches
// for them.
func (t *Trace) setApps(found []appSpan) {
	t.apps = found
	ofHost := false
	for i := range found {
		if found[i].sampled() {
			t.Correlated = true
			ofHost = ofHost || !found[i].source.OfWire()
		}
	}
	t.CorrelatedByWire = t.Correlated && !ofHost
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
	dst = append(dst,
		StringAttr(KeyAppTraceID, id),
		HexAttr(KeyAppSpanID, binary.BigEndian.Uint64(s.SpanID[:])))
	return s.appendSource(dst)
}

// appendSource appends who told of a span, and that it is not sampled if that is so.
func (s *appSpan) appendSource(dst []Attr) []Attr {
	dst = append(dst, StringAttr(KeyAppSource, s.source.String()))
	if !s.sampled() {
		dst = append(dst, BoolAttr(KeyAppSampled, false))
	}
	return dst
}

// linkToApp makes the link to a span of an application.
func (b *Builder) linkToApp(s *appSpan) Link {
	from := len(b.attrs)
	b.add(StringAttr(KeyLinkKind, s.kind))
	b.attrs = s.appendSource(b.attrs)
	return Link{TraceID: s.TraceID, SpanID: s.SpanID, Attrs: b.cut(from)}
}
