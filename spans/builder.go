package spans

import (
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// Options configure a Builder.
type Options struct {
	Names Names
	// Owners names what is known of the owners of sockets; nil: they are shown
	// by number.
	Owners OwnerNames
	Clock  Clock
	// Seed makes the ids and the hashes of kernel addresses of one run differ
	// from those of any other. Random bytes, 16 of them, kept for the run.
	Seed [16]byte
	// RawAddresses writes kernel addresses as they are instead of hashed.
	RawAddresses bool
	// Describe adds to the frames of well-known functions what they do.
	Describe bool
	// ReturnMeaning says how to read what a function returned; nil uses
	// KnownReturn. It is asked once per function.
	ReturnMeaning func(Function) Return
	// SkbFields says what the members of an skb are that event.Fields hold.
	SkbFields []event.SkbField
	// NoApps leaves the spans of applications away.
	NoApps bool
	// SampleThreshold is that of the packets' randomness; 0: they were not sampled.
	SampleThreshold uint64
}

// Return says how to read the return register of a function.
type Return uint8

// The ways of reading a return register.
const (
	ReturnNone   Return = iota // it means nothing: not written
	ReturnInt32                // a C int: an errno, a verdict, a NET_XMIT code
	ReturnInt64                // a C long
	ReturnUint32               // a C unsigned int
	ReturnBool                 // a C bool: only the lowest eight bits count
)

// value reads a return register.
func (r Return) value(reg uint64) int64 {
	switch r {
	case ReturnInt32:
		return int64(int32(uint32(reg)))
	case ReturnUint32:
		return int64(uint32(reg))
	case ReturnBool:
		if reg&0xff != 0 {
			return 1
		}
		return 0
	default:
		return int64(reg)
	}
}

// Builder turns journeys into traces. It is not safe for concurrent use.
type Builder struct {
	clock  Clock
	raw    bool
	ids    ids
	names  nameCache
	owners ownerNameCache
	nester nester
	trace  Trace
	attrs  []Attr    // what the spans' Attrs are cut from
	skbs   []lastSkb // the frame before, per skb
	places []place   // interfaces, or namespaces, in the order of the packet
	events []SpanEvent
	reader int32 // index of the span in which the packet was first read, 0: it was not
	taken  bool  // a function was seen that takes packets into sockets
	waits  []waitedFor
	depths []int32 // by facts: in how many tunnel headers less the packet is than at its first
	inner  int32   // the largest of depths: there the packet's own header is the outermost
	tops   []int32 // by node: the one below the root that it runs in
	extras extras
	lines  []string // of a stack
	links  []Link   // the root's
	sample uint64   // Options.SampleThreshold
	apps
	splitter
}

// lastSkb is what the latest frame of one skb showed.
type lastSkb struct {
	skb   uint64
	len   uint32
	mark  uint32
	facts int32
	cpu   uint16
}

// NewBuilder makes a Builder. Names and Clock must be set.
func NewBuilder(o Options) *Builder {
	return &Builder{
		clock: o.Clock, raw: o.RawAddresses, ids: newIDs(o.Seed), names: newNameCache(o),
		owners: newOwnerNameCache(o), extras: extras{fields: o.SkbFields}, apps: newApps(o.NoApps),
		sample: o.SampleThreshold,
	}
}

// Build makes one trace of a journey, with the copies that were sent elsewhere
// (see Each): pure but for the answers of Names and Clock. The Trace is reused by
// the next Build; j is only read.
func (b *Builder) Build(j *journey.Journey) *Trace {
	b.whole = part{Journey: *j}
	return b.build(&b.whole)
}

func (b *Builder) build(p *part) *Trace {
	j := &p.Journey
	t := &b.trace
	startNs, endNs := bounds(j)
	b.nester.nest(j, endNs)
	b.reset(j)
	t.EnterMonoNs, t.ExitMonoNs = startNs, endNs
	if n := b.nester.nodes; len(n) > 0 {
		t.EnterMonoNs, t.ExitMonoNs = n[0].enter, n[0].exit
		for i := range n {
			t.ExitMonoNs = max(t.ExitMonoNs, n[i].exit)
		}
		if written := writtenMonoNs(j); written != 0 {
			t.EnterMonoNs = min(t.EnterMonoNs, written)
		}
	}
	t.OffsetNs = b.clock.OffsetNs(t.EnterMonoNs)
	id, base := b.ids.part(j.ID, p.number)
	t.ID = id
	t.Sampling = samplingOf(b.sample, j.Facts)
	t.Links = append(t.Links, j.Links...)
	b.packet(j)
	b.extras.take(j)
	b.findWaits(j)
	b.appendSpans(j, base)
	b.direction()
	b.drops()
	b.findApps(j)
	b.rootAttrs()
	b.rootLinks(p)
	return t
}

// bounds returns the earliest and the latest time that a journey mentions.
func bounds(j *journey.Journey) (first, last uint64) {
	first = ^uint64(0)
	see := func(ns uint64) {
		if ns != 0 {
			first, last = min(first, ns), max(last, ns)
		}
	}
	for i := range j.Frames {
		see(j.Frames[i].EnterMonoNs)
		see(j.Frames[i].ExitMonoNs)
	}
	for i := range j.Facts {
		see(j.Facts[i].AtMonoNs)
	}
	for i := range j.Ends {
		see(j.Ends[i].AtMonoNs)
	}
	if first > last && len(j.Links) > 0 { // nothing else is known of it
		see(j.Links[0].AtMonoNs)
	}
	return min(first, last), last
}

func (b *Builder) reset(j *journey.Journey) {
	t := &b.trace
	*t = Trace{
		Spans: t.Spans[:0], Facts: t.Facts[:0], Ends: t.Ends[:0], Links: t.Links[:0], owners: t.owners[:0],
		Conntracks: t.Conntracks[:0], Rules: t.Rules[:0], strings: t.strings[:0],
		Journey: j.ID, First: -1, Last: -1, DropSpan: -1,
		LostFrames: j.LostFrames, Unfinished: j.Unfinished, Evicted: j.Evicted,
		Incomplete: j.LostFrames > 0 || j.Evicted || j.Incomplete, Shed: j.Shed,
	}
	b.attrs, b.skbs, b.reader, b.taken = b.attrs[:0], b.skbs[:0], 0, false
	for i := range j.Frames {
		if f := &j.Frames[i]; f.Flags&event.FrameEntryOnly == 0 && f.ExitMonoNs < f.EnterMonoNs {
			t.Incomplete = true
		}
	}
}

// packet copies the facts and ends and chooses the facts that describe the
// packet.
func (b *Builder) packet(j *journey.Journey) {
	t := &b.trace
	t.Facts = append(t.Facts, j.Facts...)
	t.Ends = append(t.Ends, j.Ends...)
	t.owners = append(t.owners, j.Owners...)
	t.settleNamespaces()
	b.findTunnels()
	b.absorb()
	t.Conntracks = append(t.Conntracks, j.Conntracks...)
	t.Rules = append(t.Rules, j.Rules...)
	tuple := false
	for i := range t.Facts {
		has := t.Facts[i].Flags&event.FactsTuple != 0 && b.depths[i] == b.inner
		if t.First < 0 || has && !tuple {
			t.First = int32(i)
		}
		if has || !tuple {
			t.Last = int32(i)
		}
		tuple = tuple || has
	}
	t.First = t.withHeader(t.First)
	t.Protocol = b.names.protocol(t.FirstFacts())
	t.End = t.endOf()
}

// withHeader returns the first facts of the same packet as those at an index in
// which the transport header was read too: a packet that is being sent gets its
// headers one after the other.
func (t *Trace) withHeader(index int32) int32 {
	const header = event.FactsPorts | event.FactsICMP
	f := t.factsAt(index)
	if f == nil || f.Flags&event.FactsTuple == 0 || f.Flags&header != 0 {
		return index
	}
	for i := int(index) + 1; i < len(t.Facts); i++ {
		g := &t.Facts[i]
		if g.Flags&event.FactsTuple != 0 && g.Flags&header != 0 && g.Family == f.Family && g.Protocol == f.Protocol &&
			g.Source == f.Source && g.Destination == f.Destination {
			return int32(i)
		}
	}
	return index
}

// endOf names how a journey ended: a drop of any of its skbs outweighs how the
// others ended.
func (t *Trace) endOf() string {
	var last event.EndHow
	for i := range t.Ends {
		last = t.Ends[i].How
		if last == event.EndDropped {
			return "dropped"
		}
	}
	switch {
	case t.Unfinished:
		return "unfinished"
	case len(t.Ends) == 0 && t.Evicted:
		return "evicted"
	default:
		return endName(last)
	}
}

func endName(h event.EndHow) string {
	switch h {
	case event.EndPassed:
		return "passed"
	case event.EndSent:
		return "sent"
	case event.EndRedirected:
		return "redirected"
	case event.EndDropped:
		return "dropped"
	case event.EndConsumed:
		return "consumed"
	case event.EndFreed:
		return "freed"
	case event.EndMerged:
		return "merged"
	case event.EndDeferred:
		return "deferred"
	case event.EndEvicted:
		return "evicted"
	case event.EndAbsorbed:
		return "absorbed"
	default:
		return "unfinished"
	}
}

// direction finds the way of the packet from the functions in the order of
// their entry and names the root after it.
func (b *Builder) direction() {
	t := &b.trace
	for i := range b.nester.nodes {
		s := &t.Spans[b.nester.nodes[i].span]
		if s.Frame.Flags&event.FrameNoSkb != 0 {
			continue // it says nothing of the packet
		}
		switch b.names.function(s.Frame.Func).side {
		case sideForward:
			t.Direction = DirectionForward
		case sideTx:
			if t.Direction == DirectionRx {
				t.Direction = DirectionForward
			} else if t.Direction == DirectionUnknown {
				t.Direction = DirectionTx
			}
		case sideRx:
			if t.Direction == DirectionUnknown {
				t.Direction = DirectionRx
			}
		case sideNone:
		}
		if t.Direction == DirectionTx || t.Direction == DirectionForward {
			break // nothing can change it
		}
	}
	t.Spans[0].Name = b.names.root(t.Direction, t.Protocol)
}

func (b *Builder) add(a Attr) { b.attrs = append(b.attrs, a) }

// cut returns the attributes that were added since from.
func (b *Builder) cut(from int) []Attr { return b.attrs[from:len(b.attrs):len(b.attrs)] }
