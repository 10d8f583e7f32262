package spans

import (
	"math"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// maxBlockApps is how many spans of applications a request may have links to.
const maxBlockApps = maxBlockEvents

// findApps finds the spans of applications that a root's bios were submitted in,
// each once, in the order of the bios. Requests below it are made of these.
func (b *RequestBuilder) findApps(r *blockio.Request) {
	b.found = b.found[:0]
	if b.none {
		return
	}
	b.findApp(&r.Block)
	for i := range r.Merges {
		b.findApp(&r.Merges[i])
	}
	b.trace.setApps(b.found[:min(len(b.found), maxBlockApps)])
}

// findApp adds the span that a bio was submitted in. Recordings from before there were
// several sources tell none: it was the thread.
func (b *RequestBuilder) findApp(r *event.Block) {
	source := r.AppSource
	if source == 0 {
		source = event.AppThread
	}
	b.addApp(appSpan{AppContext: r.App, source: source, flags: r.AppFlags, kind: "submitted_by"}, math.MaxInt)
}

// appAttrs names the first of the spans that findApps found.
func (b *RequestBuilder) appAttrs() {
	if len(b.found) == 0 {
		return
	}
	b.attrs = b.appendTo(b.attrs, &b.found[0])
	if n := len(b.found) - maxBlockApps; n > 0 {
		b.add(IntAttr(KeyAppLeftOut, int64(n)))
	}
}

// appLinks gives the root a link to each span that findApps found.
func (b *RequestBuilder) appLinks() {
	if len(b.found) == 0 {
		return
	}
	b.links = b.links[:0]
	for i := range b.found[:min(len(b.found), maxBlockApps)] {
		s := &b.found[i]
		from := len(b.attrs)
		b.add(StringAttr(KeyLinkKind, s.kind))
		b.attrs = s.appendSource(b.attrs)
		b.links = append(b.links, Link{TraceID: s.TraceID, SpanID: s.SpanID, Attrs: b.cut(from)})
	}
	b.trace.Spans[0].Links = b.links
}
