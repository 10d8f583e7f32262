package journey

import (
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// open is a journey that has not been emitted, with what the Tracker must know
// to tell when it has ended.
type open struct {
	Journey
	skbs    []incarnation // those of which something is still to come, oldest first
	hint    int           // index in skbs of the one that had the last frame
	live    int           // how many of skbs have not ended
	started bool          // the facts with event.FactsStart came

	lastMonoNs uint64 // the Tracker's clock at the last event
	in         *list
	prev, next *open
}

// incarnation is one skb from its allocation to its end. An address may come
// back within a journey, so an address is not enough to name one.
type incarnation struct {
	skb       uint64
	endMonoNs uint64
	received  uint32 // frames that came
	entered   uint32 // frames that the kernel entered, known when ended
	facts     bool   // its facts number 1 came
	made      bool   // its clone record came, or it is the starter
	ended     bool
	reused    bool // an older incarnation of this address is still in the list
}

// takes reports whether an event of address skb and of that time is one of c:
// nothing enters an skb after its end.
func (c *incarnation) takes(skb, monoNs uint64) bool {
	return c.skb == skb && (!c.ended || monoNs <= c.endMonoNs)
}

// find gives the index of the incarnation that an event belongs to, -1 when
// there is none: the oldest that had not ended then.
func (o *open) find(skb, monoNs uint64) int {
	if o.hint < len(o.skbs) && !o.skbs[o.hint].reused && o.skbs[o.hint].takes(skb, monoNs) {
		return o.hint
	}
	for i := range o.skbs {
		if o.skbs[i].takes(skb, monoNs) {
			return i
		}
	}
	return -1
}

// begin adds an incarnation of the address and gives its index.
func (o *open) begin(skb uint64) int {
	reused := false
	for i := range o.skbs {
		reused = reused || o.skbs[i].skb == skb
	}
	o.skbs = append(o.skbs, incarnation{skb: skb, reused: reused})
	o.live++
	return len(o.skbs) - 1
}

// findOrBegin is find, and begin when there is none. It gives -1 for what is of
// an skb that nothing more was expected of: the kernel reads the number of
// frames entered shortly before it ends the skb, and another CPU may enter one
// in between.
func (o *open) findOrBegin(skb, monoNs uint64) int {
	if i := o.find(skb, monoNs); i >= 0 {
		return i
	}
	for i := range o.Ends {
		if o.Ends[i].Skb == skb && monoNs <= o.Ends[i].AtMonoNs {
			return -1
		}
	}
	return o.begin(skb)
}

// findLive gives the index of the incarnation of that address that has not
// ended, -1 when there is none. There is at most one.
func (o *open) findLive(skb uint64) int {
	for i := range o.skbs {
		if o.skbs[i].skb == skb && !o.skbs[i].ended {
			return i
		}
	}
	return -1
}

// replace ends incarnation i, whose address has been announced anew, so that
// its end must have been lost, and begins the next one.
func (o *open) replace(i int) int {
	skb := o.skbs[i].skb
	o.Incomplete = true
	o.live--
	o.forget(i)
	return o.begin(skb)
}

// settle forgets incarnation i when nothing is to come of it.
func (o *open) settle(i int) {
	if c := &o.skbs[i]; c.ended && c.received >= c.entered {
		o.forget(i)
	}
}

// forget takes incarnation i out of the list.
func (o *open) forget(i int) {
	skb := o.skbs[i].skb
	o.skbs = slices.Delete(o.skbs, i, i+1)
	o.hint = 0
	for k := range o.skbs {
		if o.skbs[k].skb == skb {
			o.skbs[k].reused = false // the oldest that is left
			return
		}
	}
}

// missing counts the frames that were entered on ended skbs and have not come.
func (o *open) missing() uint32 {
	var n uint32
	for i := range o.skbs {
		if c := &o.skbs[i]; c.ended {
			n += c.entered - min(c.received, c.entered)
		}
	}
	return n
}

// complete reports whether nothing of the journey is to come.
func (o *open) complete() bool { return len(o.skbs) == 0 }

// add adds an event of a kind that event.Event.Journey knows. It reports whether
// there was room for it, and whether the end of an earlier skb of that address was
// lost.
func (o *open) add(ev *event.Event, limit int) (kept, lostEnd bool) {
	switch ev.Kind {
	case event.KindFrame:
		kept = o.addFrame(&ev.Frame, limit)
	case event.KindFacts:
		kept, lostEnd = o.addFacts(&ev.Facts, limit)
	case event.KindClone:
		kept, lostEnd = o.addClone(&ev.Clone, limit)
	case event.KindEnd:
		kept = o.addEnd(&ev.End, limit)
	case event.KindStack:
		kept = o.addStack(&ev.Stack, limit)
	case event.KindFields:
		kept = o.addFields(&ev.Fields, limit)
	case event.KindOwner:
		kept = keep(o, &o.Owners, &ev.Owner, ev.Owner.Skb, limit, func(w *event.Owner) uint64 { return w.AtMonoNs })
	case event.KindApp:
		kept = keep(o, &o.Apps, &ev.App, ev.App.Skb, limit, func(a *event.App) uint64 { return a.AtMonoNs })
	case event.KindConntrack:
		kept = keep(o, &o.Conntracks, &ev.Conntrack, ev.Conntrack.Skb, limit, func(c *event.Conntrack) uint64 { return c.AtMonoNs })
	case event.KindRule:
		kept = keep(o, &o.Rules, &ev.Rule, ev.Rule.Skb, limit, func(r *event.Rule) uint64 { return r.AtMonoNs })
	}
	return kept, lostEnd
}

// addFrame reports whether there was room for the frame.
func (o *open) addFrame(f *event.Frame, limit int) bool {
	o.Incomplete = o.Incomplete || f.Flags&event.FrameCalleesLost != 0
	o.Shed = o.Shed || f.Flags&event.FrameShed != 0
	if f.Flags&event.FrameNoSkb != 0 {
		// Not counted: the frame around it comes after it.
	} else if i := o.findOrBegin(f.Skb, f.EnterMonoNs); i >= 0 {
		o.hint = i
		o.skbs[i].received++
		o.settle(i)
	}
	if len(o.Frames) >= limit {
		o.Evicted = true
		return false
	}
	o.Frames = append(o.Frames, *f)
	return true
}

// addFacts reports whether there was room for the facts, and whether the end of
// an earlier skb of that address was lost.
func (o *open) addFacts(f *event.Facts, limit int) (kept, lostEnd bool) {
	o.started = o.started || f.Flags&event.FactsStart != 0
	o.Incomplete = o.Incomplete || f.Flags&event.FactsLate != 0
	if i := o.findOrBegin(f.Skb, f.AtMonoNs); i >= 0 && f.Number == 1 {
		if c := &o.skbs[i]; c.facts && !c.ended {
			i, lostEnd = o.replace(i), true
		}
		o.skbs[i].facts = true
		o.skbs[i].made = o.skbs[i].made || f.Flags&event.FactsStart != 0
	}
	o.Facts, kept = insert(o.Facts, f, limit, func(f *event.Facts) uint64 { return f.AtMonoNs })
	o.Evicted = o.Evicted || !kept
	return kept, lostEnd
}

// addClone is addFacts for a clone.
func (o *open) addClone(c *event.Clone, limit int) (kept, lostEnd bool) {
	i := o.findLive(c.Skb)
	switch {
	case i < 0:
		i = o.begin(c.Skb)
	case o.skbs[i].made:
		i, lostEnd = o.replace(i), true
	}
	o.skbs[i].made = true
	o.Clones, kept = insert(o.Clones, c, limit, func(c *event.Clone) uint64 { return c.AtMonoNs })
	o.Evicted = o.Evicted || !kept
	return kept, lostEnd
}

// addEnd reports whether there was room for the end.
func (o *open) addEnd(e *event.End, limit int) (kept bool) {
	i := o.findLive(e.Skb)
	if i < 0 {
		i = o.begin(e.Skb)
	}
	c := &o.skbs[i]
	c.ended, c.endMonoNs, c.entered = true, e.AtMonoNs, e.Entered
	o.live--
	o.settle(i)
	o.Ends, kept = insert(o.Ends, e, limit, func(e *event.End) uint64 { return e.AtMonoNs })
	o.Evicted = o.Evicted || !kept || e.How == event.EndEvicted
	return kept
}

// keep adds what was reported of an skb while it was tracked to a list that is
// ordered by at, and reports whether there was room.
func keep[T any](o *open, list *[]T, v *T, skb uint64, limit int, at func(*T) uint64) (kept bool) {
	o.expect(skb, at(v))
	*list, kept = insert(*list, v, limit, at)
	o.Evicted = o.Evicted || !kept
	return kept
}

// expect makes an skb known of which something came: it is sent while the skb is
// tracked.
func (o *open) expect(skb, monoNs uint64) { o.findOrBegin(skb, monoNs) }

// insert adds a copy of v to s, which is ordered by at and stays so. Records
// come nearly in that order, as a CPU takes the time shortly before it reserves
// its place in the ring. It reports whether there was room.
func insert[T any](s []T, v *T, limit int, at func(*T) uint64) ([]T, bool) {
	if len(s) >= limit {
		return s, false
	}
	i := len(s)
	for i > 0 && at(&s[i-1]) > at(v) {
		i--
	}
	s = append(s, *v)
	if i < len(s)-1 {
		copy(s[i+1:], s[i:])
		s[i] = *v
	}
	return s, true
}

// events counts the events that o has.
func (o *open) events() int {
	return len(o.Frames) + len(o.Facts) + len(o.Clones) + len(o.Ends) + len(o.Links) + len(o.Owners) +
		len(o.Stacks) + len(o.Fields) + len(o.Conntracks) + len(o.Rules) + len(o.Apps)
}

// room counts the events for which o has memory.
func (o *open) room() int {
	return cap(o.Frames) + cap(o.Facts) + cap(o.Clones) + cap(o.Ends) + cap(o.Links) + cap(o.Owners) + cap(o.skbs) +
		cap(o.Stacks) + cap(o.Addresses) + cap(o.Fields) + cap(o.Conntracks) + cap(o.Rules) + cap(o.Apps)
}

// reset makes o the journey of that id, with the memory it has.
func (o *open) reset(id uint64) {
	*o = open{
		Journey: Journey{
			ID: id, Frames: o.Frames[:0], Facts: o.Facts[:0], Clones: o.Clones[:0], Ends: o.Ends[:0],
			Stacks: o.Stacks[:0], Addresses: o.Addresses[:0], Fields: o.Fields[:0],
			Links:      o.Links[:0],
			Owners:     o.Owners[:0],
			Apps:       o.Apps[:0],
			Conntracks: o.Conntracks[:0], Rules: o.Rules[:0],
		},
		skbs: o.skbs[:0],
	}
}
