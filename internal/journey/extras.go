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
	return keep(o, &o.Fields, f, f.Skb, limit, func(f *event.Fields) uint64 { return f.AtMonoNs })
}
