package spans

import (
	"encoding/hex"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// Defaults of SummaryOptions.
const (
	defaultSummaryIdleNs  = 2_000_000_000
	defaultSummaryAgeNs   = 60_000_000_000
	defaultSummaryMaxOpen = 4096
)

// maxSummaryLinks bounds the traces that a summary has a link to: the first ones, and
// the slowest is named besides.
const maxSummaryLinks = 64

// SummaryOptions configure Summaries. Times are CLOCK_MONOTONIC nanoseconds; 0 means
// the default.
type SummaryOptions struct {
	Seed    [16]byte // of the ids, as of the Builder
	IdleNs  uint64   // a summary is made when no trace has come for so long
	AgeNs   uint64   // … or when it has been open for so long
	MaxOpen int      // … or the oldest, when more than so many are open
	Copies  bool     // puts the traces themselves into the application's, too
}

// SummaryStats count what Summaries left out to stay bounded.
type SummaryStats struct {
	// WireLeftOut counts the spans of applications, of each trace, that have no summary of
	// it: only packets name them, and WireTracesPerSecond had been begun for such.
	WireLeftOut uint64
	// CopiesLeftOut counts the traces that were not copied; the summaries say so, too.
	CopiesLeftOut uint64
}

// Summaries makes of all traces that one span of an application caused one span for
// each direction, in that application's own trace. It is not safe for concurrent use.
type Summaries struct {
	o     SummaryOptions
	ids   ids
	open  map[summaryKey]*summary
	order []*summary // by the time of the first trace
	free  []*summary
	wire  Budget // of summaries that are begun for what only packets say
	stats SummaryStats
	trace Trace
	attrs []Attr
	emit  func(*Trace)
	copier
}

// summaryKey is a span of an application and the kind of the links to it.
type summaryKey struct {
	event.AppContext
	kind string
}

// summary is what is known of one so far.
type summary struct {
	summaryKey
	id          [8]byte
	source      event.AppSource // of the first trace
	block       bool
	openedAt    uint64 // CLOCK_MONOTONIC …
	seenAt      uint64 // … of the end of the first and of the last trace that came
	enterMonoNs uint64
	exitMonoNs  uint64
	offsetNs    int64  // of the trace that began first
	startUnixNs uint64 // CLOCK_REALTIME, by each trace's own offset
	endUnixNs   uint64
	traces      int64
	bytes       int64
	timeNs      uint64 // sum of the traces' durations
	retransmits int64
	drops       int64
	errors      int64
	slowestNs   uint64
	slowest     [16]byte
	sums        [keyCount - KeyStageDurations]int64 // by key: times in stages and waits
	links       []Link
	// Of the traces that were copied, and of those that were not for want of room:
	copies, copiedSpans, copiesLeftOut int64
}

// NewSummaries makes Summaries that give each span to emit, as the only one of a Trace,
// and each copy of a trace. They last until emit returns.
func NewSummaries(o SummaryOptions, emit func(*Trace)) *Summaries {
	if o.IdleNs == 0 {
		o.IdleNs = defaultSummaryIdleNs
	}
	if o.AgeNs == 0 {
		o.AgeNs = defaultSummaryAgeNs
	}
	if o.MaxOpen == 0 {
		o.MaxOpen = defaultSummaryMaxOpen
	}
	return &Summaries{
		o: o, ids: newIDs(o.Seed), open: map[summaryKey]*summary{}, emit: emit,
		wire: NewBudget(WireTracesPerSecond), copier: newCopier(),
	}
}

// Stats gives the counters.
func (a *Summaries) Stats() SummaryStats { return a.stats }

// Add counts a trace in, for each span of an application that its root is linked to. Of
// a span that is not sampled there is no trace that could be added to.
func (a *Summaries) Add(t *Trace) {
	if !t.Correlated || t.Summary || t.Copy {
		return
	}
	first := true
	for i := range t.apps {
		app := &t.apps[i]
		if !app.sampled() {
			continue
		}
		s := a.summary(app, t)
		if s != nil {
			s.add(t)
		}
		if first && a.o.Copies {
			a.copyBelow(s, app, t)
		}
		first = false
	}
}

// summary gives the open summary of a span, a new one if there is none; nil when there
// may be no other now.
func (a *Summaries) summary(app *appSpan, t *Trace) *summary {
	k := summaryKey{AppContext: app.AppContext, kind: app.kind}
	if s := a.open[k]; s != nil {
		return s
	}
	if app.source.OfWire() && !a.wire.Take(t.ExitMonoNs) {
		a.stats.WireLeftOut++
		return nil
	}
	if len(a.order) >= a.o.MaxOpen {
		a.close(0)
	}
	s := &summary{}
	if n := len(a.free); n > 0 {
		s, a.free = a.free[n-1], a.free[:n-1]
		*s = summary{links: s.links[:0]}
	}
	root := t.Root()
	s.summaryKey, s.source, s.block = k, app.source, t.Block
	s.id = a.ids.summary(k.SpanID, root.ID, kindNumber(k.kind))
	s.openedAt, s.enterMonoNs, s.offsetNs, s.startUnixNs = t.ExitMonoNs, t.EnterMonoNs, t.OffsetNs, root.StartUnixNs
	a.open[k] = s
	a.order = append(a.order, s)
	a.enter(k.TraceID)
	return s
}

// add counts one trace.
func (s *summary) add(t *Trace) {
	root := t.Root()
	s.traces++
	s.seenAt = max(s.seenAt, t.ExitMonoNs)
	s.cover(root, t.OffsetNs)
	took := root.ExitMonoNs - min(root.EnterMonoNs, root.ExitMonoNs)
	s.timeNs += took
	if took >= s.slowestNs {
		s.slowestNs, s.slowest = took, t.ID
	}
	if root.Error {
		s.errors++
	}
	for i := range root.Attrs {
		switch at := &root.Attrs[i]; {
		case at.Key == KeySkbLenFirst || at.Key == KeyBlockBytes:
			s.bytes += at.Int
		case at.Key == KeyTCPRetransmit:
			s.retransmits++
		case at.Key == KeyDropReason && !t.Delivered:
			s.drops++
		case at.Key >= KeyStageDurations:
			s.sums[at.Key-KeyStageDurations] += at.Int
		}
	}
	if len(s.links) < maxSummaryLinks {
		s.links = append(s.links, Link{TraceID: t.ID, SpanID: root.ID})
	}
}

// cover makes the summary last from the first begin to the last end of its spans.
func (s *summary) cover(of *Span, offsetNs int64) {
	if of.EnterMonoNs < s.enterMonoNs {
		s.enterMonoNs, s.offsetNs = of.EnterMonoNs, offsetNs
	}
	s.exitMonoNs = max(s.exitMonoNs, of.ExitMonoNs)
	s.startUnixNs, s.endUnixNs = min(s.startUnixNs, of.StartUnixNs), max(s.endUnixNs, of.EndUnixNs)
}

// Advance makes the summaries that are due at a time up to which all traces have come.
func (a *Summaries) Advance(nowMonoNs uint64) {
	for i := 0; i < len(a.order); {
		if s := a.order[i]; s.seenAt+a.o.IdleNs <= nowMonoNs || s.openedAt+a.o.AgeNs <= nowMonoNs {
			a.close(i)
			continue
		}
		i++
	}
}

// CloseAll makes all that are open.
func (a *Summaries) CloseAll() {
	for len(a.order) > 0 {
		a.close(0)
	}
}

// close makes the span of the summary at an index of order, and forgets it.
func (a *Summaries) close(index int) {
	s := a.order[index]
	a.order = append(a.order[:index], a.order[index+1:]...)
	delete(a.open, s.summaryKey)
	a.leave(s.TraceID)
	a.build(s)
	a.emit(&a.trace)
	a.free = append(a.free, s)
}

// summaryName is the span's name, by the kind of the links.
func summaryName(kind string) string {
	switch kind {
	case "sent_by":
		return "packets sent"
	case "read_by":
		return "packets read"
	case "answers":
		return "packets in answer"
	default:
		return "block requests"
	}
}

func (a *Summaries) build(s *summary) {
	t := &a.trace
	*t = Trace{
		ID: s.TraceID, Summary: true, Spans: t.Spans[:0], strings: t.strings[:0],
		First: -1, Last: -1, DropSpan: -1,
		EnterMonoNs: s.enterMonoNs, ExitMonoNs: s.exitMonoNs, OffsetNs: s.offsetNs, Correlated: true,
	}
	a.attributes(s)
	t.Spans = append(t.Spans, Span{
		ID: s.id, Parent: s.SpanID, Name: summaryName(s.kind), ParentIndex: -1, Facts: -1,
		StartUnixNs: s.startUnixNs, EndUnixNs: s.endUnixNs,
		EnterMonoNs: s.enterMonoNs, ExitMonoNs: s.exitMonoNs, Attrs: a.attrs, Links: s.links,
	})
}

// kindNumber tells the summaries of one trace apart.
func kindNumber(kind string) uint8 {
	switch kind {
	case "sent_by":
		return 1
	case "read_by":
		return 2
	case "answers":
		return 4
	default:
		return 3
	}
}

func (a *Summaries) attributes(s *summary) {
	a.attrs = a.attrs[:0]
	count := func(k Key, n int64) {
		if n > 0 {
			a.attrs = append(a.attrs, IntAttr(k, n))
		}
	}
	a.attrs = append(a.attrs, StringAttr(KeyAppSource, s.source.String()))
	if s.block {
		count(KeySummaryRequests, s.traces)
	} else {
		count(KeySummaryPackets, s.traces)
	}
	count(KeySummaryBytes, s.bytes)
	count(KeySummaryTimeNs, int64(s.timeNs))
	count(KeySummaryRetransmits, s.retransmits)
	count(KeySummaryDrops, s.drops)
	count(KeySummaryErrors, s.errors)
	a.attrs = append(a.attrs,
		StringAttr(KeySummarySlowestTrace, hex.EncodeToString(s.slowest[:])),
		IntAttr(KeySummarySlowestNs, int64(s.slowestNs)))
	for i, n := range s.sums {
		count(KeyStageDurations+Key(i), n)
	}
	count(KeySummaryLeftOut, s.traces-int64(len(s.links)))
	count(KeySummaryCopiesLeftOut, s.copiesLeftOut)
}
