package spans

import (
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// copies says whether what a function of Linux 5.10 to 7.3 clones is sent or
// delivered elsewhere than the original, so that it is another packet. Taps, raw
// sockets and drivers clone, too, but what they get is the same packet.
func copies(name string) bool {
	switch name {
	case
		// To each of several sockets.
		"udp_rcv", "__udp4_lib_rcv", "__udp4_lib_mcast_deliver",
		"udpv6_rcv", "__udp6_lib_rcv", "__udp6_lib_mcast_deliver",
		// To the host's own sockets besides the wire.
		"ip_mc_output", "ip6_finish_output2",
		// Out of each of several interfaces, or to each of several peers.
		"br_flood", "br_multicast_flood", "br_forward", "maybe_deliver", "deliver_clone",
		"ip_mr_forward", "ip_mr_input", "ip6_mr_forward", "ip6_mr_input",
		"macvlan_broadcast", "macvlan_process_broadcast", "ipvlan_process_multicast",
		"bond_xmit_broadcast", "vxlan_xmit",
		// Where a rule sends a copy.
		"tcf_mirred_act", "nf_dup_ipv4", "nf_dup_ipv6":
		return true
	}
	return false
}

// part is a journey, or what of it is a trace of its own.
type part struct {
	journey.Journey
	number int   // 0: the packet itself
	kin    []int // the part that this one is a copy of, if any, and its copies
	skbs   int   // that it has had
}

// birth says which part an skb belongs to from a time on.
type birth struct {
	skb      uint64
	atMonoNs uint64
	part     int
}

// splitter divides a journey into the packet and the copies of it that went
// elsewhere. Its memory is reused, that of the parts is not.
type splitter struct {
	births []birth
	parts  []part
	whole  part // of a journey that is not divided
}

// Each makes the traces of a journey: that of the packet, and then those of the
// copies of it that went elsewhere (multicast, floods, mirrors), each linked to
// that which it is a copy of. Clones that stay with the packet are in its trace.
// Each Trace lasts until emit returns.
func (b *Builder) Each(j *journey.Journey, emit func(*Trace)) {
	if len(j.Clones) == 0 || !b.split(j) {
		emit(b.Build(j))
		return
	}
	for i := range b.parts {
		emit(b.build(&b.parts[i]))
	}
}

// split fills b.parts and says whether there is more than one.
func (b *Builder) split(j *journey.Journey) bool {
	b.births, b.parts = b.births[:0], append(b.parts[:0], part{Journey: journey.Journey{ID: j.ID}, skbs: 1})
	for i := range j.Clones {
		c := &j.Clones[i]
		at := b.partOf(c.Parent, c.AtMonoNs)
		if b.goesElsewhere(j, c) {
			number := len(b.parts)
			b.parts = append(b.parts, part{Journey: journey.Journey{ID: j.ID}, number: number, kin: []int{at}})
			b.parts[at].kin = append(b.parts[at].kin, number)
			at = number
		}
		b.parts[at].skbs++
		b.births = append(b.births, birth{c.Skb, c.AtMonoNs, at})
	}
	if len(b.parts) == 1 {
		return false
	}
	b.deal(j)
	return true
}

// partOf gives the part that an skb belongs to at a time.
func (b *Builder) partOf(skb, monoNs uint64) int {
	for i := len(b.births) - 1; i >= 0; i-- {
		if n := &b.births[i]; n.skb == skb && n.atMonoNs <= monoNs {
			return n.part
		}
	}
	return 0
}

// deal gives each part what is of its skbs. What the journey misses may be
// missing in any of them; it is counted on the first.
func (b *Builder) deal(j *journey.Journey) {
	share(b, j.Frames, func(f *event.Frame) (skb, monoNs uint64) { return f.Skb, f.EnterMonoNs },
		func(p *part) *[]event.Frame { return &p.Frames })
	share(b, j.Facts, func(f *event.Facts) (skb, monoNs uint64) { return f.Skb, f.AtMonoNs },
		func(p *part) *[]event.Facts { return &p.Facts })
	share(b, j.Ends, func(e *event.End) (skb, monoNs uint64) { return e.Skb, e.AtMonoNs },
		func(p *part) *[]event.End { return &p.Ends })
	share(b, j.Links, func(l *event.Link) (skb, monoNs uint64) {
		if l.Journey != j.ID {
			return l.OtherSkb, l.AtMonoNs
		}
		return l.Skb, l.AtMonoNs
	}, func(p *part) *[]event.Link { return &p.Links })
	b.dealExtras(j)
	b.parts[0].LostFrames = j.LostFrames
	for i := range b.parts {
		p := &b.parts[i]
		p.Unfinished = j.Unfinished && len(p.Ends) < p.skbs
		p.Evicted = j.Evicted
		p.Incomplete = j.Incomplete || j.LostFrames > 0
		p.Shed = j.Shed
	}
}

// dealExtras is deal for owners, connections, rules and what was asked for
// besides. The addresses of stacks are shared.
func (b *Builder) dealExtras(j *journey.Journey) {
	share(b, j.Owners, func(o *event.Owner) (skb, monoNs uint64) { return o.Skb, o.AtMonoNs },
		func(p *part) *[]event.Owner { return &p.Owners })
	share(b, j.Apps, func(c *event.App) (skb, monoNs uint64) { return c.Skb, c.AtMonoNs },
		func(p *part) *[]event.App { return &p.Apps })
	share(b, j.Conntracks, func(c *event.Conntrack) (skb, monoNs uint64) { return c.Skb, c.AtMonoNs },
		func(p *part) *[]event.Conntrack { return &p.Conntracks })
	share(b, j.Rules, func(r *event.Rule) (skb, monoNs uint64) { return r.Skb, r.AtMonoNs },
		func(p *part) *[]event.Rule { return &p.Rules })
	share(b, j.Fields, func(f *event.Fields) (skb, monoNs uint64) { return f.Skb, f.AtMonoNs },
		func(p *part) *[]event.Fields { return &p.Fields })
	share(b, j.Stacks, func(s *journey.Stack) (skb, monoNs uint64) { return s.Skb, s.AtMonoNs },
		func(p *part) *[]journey.Stack { return &p.Stacks })
	for i := range b.parts {
		b.parts[i].Addresses = j.Addresses
	}
}

// share appends each of all to the list of the part that its skb belongs to.
func share[T any](b *Builder, all []T, of func(*T) (skb, monoNs uint64), list func(*part) *[]T) {
	for i := range all {
		to := list(&b.parts[b.partOf(of(&all[i]))])
		*to = append(*to, all[i])
	}
}

// goesElsewhere says whether a clone is another packet: by the function that
// called the one which returned it.
func (b *Builder) goesElsewhere(j *journey.Journey, c *event.Clone) bool {
	var cloner, caller *event.Frame
	for i := range j.Frames {
		f := &j.Frames[i]
		if f.Return == c.Skb && f.Skb == c.Parent && f.CPU == c.CPU && f.ExitMonoNs <= c.AtMonoNs &&
			(cloner == nil || f.ExitMonoNs >= cloner.ExitMonoNs) {
			cloner = f
		}
	}
	if cloner == nil {
		return false
	}
	for i := range j.Frames {
		f := &j.Frames[i]
		// A caller's stack pointer is higher, on the same stack.
		if f.Stack-cloner.Stack-1 < kernelStackSize && f.CPU == cloner.CPU &&
			f.EnterMonoNs <= cloner.EnterMonoNs && f.ExitMonoNs >= cloner.ExitMonoNs &&
			(caller == nil || f.Stack < caller.Stack) {
			caller = f
		}
	}
	return caller != nil && b.names.function(caller.Func).copies
}
