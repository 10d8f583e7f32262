package journey

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// addLink tells both journeys of a link. The journey of what was cut begins with
// it; otherwise a journey that is not open any more, or never was, learns nothing.
func (t *Tracker) addLink(l *event.Link) {
	if l.What == event.LinkDerived {
		t.derive(l)
	} else {
		t.tell(l.Journey, l)
	}
	if l.Other != l.Journey {
		t.tell(l.Other, l)
	}
}

// derive begins the journey of a segment or fragment.
func (t *Tracker) derive(l *event.Link) {
	o := t.find(l.Journey, l.AtMonoNs)
	if o == nil {
		return
	}
	o.started = true
	if i := o.findLive(l.Skb); i < 0 {
		o.skbs[o.begin(l.Skb)].made = true
	}
	t.keepLink(o, l)
}

// tell gives a link to an open journey.
func (t *Tracker) tell(id uint64, l *event.Link) {
	if o := t.journeys[id]; o != nil {
		t.nowMonoNs = max(t.nowMonoNs, l.AtMonoNs)
		t.keepLink(o, l)
	}
}

func (t *Tracker) keepLink(o *open, l *event.Link) {
	var kept bool
	o.Links, kept = insert(o.Links, l, t.opts.MaxFrames, func(l *event.Link) uint64 { return l.AtMonoNs })
	o.Evicted = o.Evicted || !kept
	t.count(kept)
	t.settle(o)
}

// lookBack links a packet with TCP data that were sent before to the packet that
// was the first with them.
func (t *Tracker) lookBack(f *event.Facts) {
	const header = event.FactsStart | event.FactsTuple | event.FactsPorts
	if f.Protocol != protocolTCP || f.Flags&header != header {
		return
	}
	first, number := t.sent.see(f)
	if number == 0 {
		return
	}
	t.addLink(&event.Link{
		What: event.LinkRetransmitted, Journey: f.Journey, Other: first, AtMonoNs: f.AtMonoNs, Number: number, CPU: f.CPU,
	})
}
