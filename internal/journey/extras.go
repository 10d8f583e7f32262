package journey

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// Stack is an event.Stack whose addresses the Journey keeps together with those
// of all others: most have one only.
type Stack struct {
	Skb      uint64
	AtMonoNs uint64
	Ordinal  uint32
	From     uint32 // index in Journey.Addresses
	Depth    uint8
	Kind     event.StackKind
}

// AddressesOf gives the addresses of a stack of this journey, innermost first.
func (j *Journey) AddressesOf(s *Stack) []uint64 {
	from := min(int(s.From), len(j.Addresses))
	return j.Addresses[from:min(from+int(s.Depth), len(j.Addresses))]
}

// addExtra adds a stack or fields to its journey, nil when that was emitted lately.
func (t *Tracker) addExtra(ev *event.Event) (o *open, kept bool) {
	id, monoNs := ev.Stack.Journey, ev.Stack.AtMonoNs
	if ev.Kind == event.KindFields {
		id, monoNs = ev.Fields.Journey, ev.Fields.AtMonoNs
	}
	if o = t.find(id, monoNs); o == nil {
		return nil, false
	}
	if ev.Kind == event.KindFields {
		kept = o.addFields(&ev.Fields, t.opts.MaxFrames)
	} else {
		kept = o.addStack(&ev.Stack, t.opts.MaxFrames)
	}
	return o, kept
}

// expect makes an skb known of which something came: it is sent while the skb is
// tracked.
func (o *open) expect(skb, monoNs uint64) { o.findOrBegin(skb, monoNs) }

// addStack reports whether there was room for the stack. A frame may have two.
func (o *open) addStack(s *event.Stack, limit int) bool {
	o.expect(s.Skb, s.AtMonoNs)
	if len(o.Stacks) >= 2*limit {
		o.Evicted = true
		return false
	}
	o.Stacks = append(o.Stacks, Stack{
		Skb: s.Skb, AtMonoNs: s.AtMonoNs, Ordinal: s.Ordinal,
		From: uint32(len(o.Addresses)), Depth: s.Depth, Kind: s.Kind,
	})
	o.Addresses = append(o.Addresses, s.Addresses[:s.Depth]...)
	return true
}

// addFields is addStack for fields, of which a frame has one.
func (o *open) addFields(f *event.Fields, limit int) bool {
	o.expect(f.Skb, f.AtMonoNs)
	if len(o.Fields) >= limit {
		o.Evicted = true
		return false
	}
	o.Fields = append(o.Fields, *f)
	return true
}
