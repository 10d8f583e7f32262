package spans

// Bounds of what is copied into the traces of applications, which pages must still be
// able to show. What is beyond is left out, and counted.
const (
	maxCopies           = 64     // traces below one summary
	maxCopiedSpans      = 4_000  // of those: 64 packets of some 60 functions
	maxTraceCopiedSpans = 20_000 // in one application's trace, while a summary of it is open
)

// copier makes copies of traces as parts of others. Its memory is reused.
type copier struct {
	rooms  map[[16]byte]copyRoom // of the applications' traces that have an open summary
	strays Budget                // of copies for what only packets say
	copied Trace
	spans  []Span // of copied
	link   [1]Link
	attr   [1]Attr
}

// copyRoom is what an application's trace has got.
type copyRoom struct {
	open  int // summaries
	spans int // copied
}

func newCopier() copier {
	c := copier{rooms: map[[16]byte]copyRoom{}, strays: NewBudget(WireTracesPerSecond)}
	c.attr[0] = StringAttr(KeyLinkKind, "copied_from")
	return c
}

// enter is told of a summary that is begun in a trace.
func (c *copier) enter(trace [16]byte) {
	r := c.rooms[trace]
	r.open++
	c.rooms[trace] = r
}

// leave is told of one that is made.
func (c *copier) leave(trace [16]byte) {
	r := c.rooms[trace]
	r.open--
	if r.open > 0 {
		c.rooms[trace] = r
	} else {
		delete(c.rooms, trace)
	}
}

// take says whether a trace has room below a summary, and takes it.
func (c *copier) take(s *summary, app *appSpan, t *Trace) bool {
	r, n := c.rooms[s.TraceID], len(t.Spans)
	if s.copies >= maxCopies || s.copiedSpans+int64(n) > maxCopiedSpans || r.spans+n > maxTraceCopiedSpans ||
		app.source.OfWire() && !c.strays.Take(t.ExitMonoNs) {
		return false
	}
	s.copies++
	s.copiedSpans += int64(n)
	r.spans += n
	c.rooms[s.TraceID] = r
	return true
}

// copyBelow emits a trace once more: as part of an application's, below the summary,
// which is nil where there may be none. All times and attributes are the same.
func (a *Summaries) copyBelow(s *summary, app *appSpan, t *Trace) {
	if s == nil || !a.take(s, app, t) {
		a.stats.CopiesLeftOut++
		if s != nil {
			s.copiesLeftOut++
		}
		return
	}
	c := &a.copied
	*c = *t
	a.spans = append(a.spans[:0], t.Spans...)
	c.ID, c.Spans, c.Copy, c.Sampling = s.TraceID, a.spans, true, Sampling{}
	for i := range c.Spans {
		p := &c.Spans[i]
		p.ID, p.Parent = a.ids.copied(p.ID), a.ids.copied(p.Parent)
		s.cover(p, t.OffsetNs) // what a request waited lies before the root
	}
	a.link[0] = Link{TraceID: t.ID, SpanID: t.Root().ID, Attrs: a.attr[:]}
	root := c.Root()
	root.Parent, root.Links = s.id, a.link[:]
	a.emit(c)
}
