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

// dealExtras is deal for owners, connections, rules and what was asked for besides. The addresses
// of stacks are shared.
func (b *Builder) dealExtras(j *journey.Journey) {
	for i := range j.Stacks {
		st := &j.Stacks[i]
		p := &b.parts[b.partOf(st.Skb, st.AtMonoNs)]
		p.Stacks, p.Addresses = append(p.Stacks, *st), j.Addresses
	}
	for i := range j.Owners {
		o := &j.Owners[i]
		p := &b.parts[b.partOf(o.Skb, o.AtMonoNs)]
		p.Owners = append(p.Owners, *o)
	}
	for i := range j.Conntracks {
		c := &j.Conntracks[i]
		p := &b.parts[b.partOf(c.Skb, c.AtMonoNs)]
		p.Conntracks = append(p.Conntracks, *c)
	}
	for i := range j.Rules {
		r := &j.Rules[i]
		p := &b.parts[b.partOf(r.Skb, r.AtMonoNs)]
		p.Rules = append(p.Rules, *r)
	}
	for i := range j.Fields {
		f := &j.Fields[i]
		p := &b.parts[b.partOf(f.Skb, f.AtMonoNs)]
		p.Fields = append(p.Fields, *f)
	}
}

// deal gives each part what is of its skbs. What the journey misses may be
// missing in any of them; it is counted on the first.
func (b *Builder) deal(j *journey.Journey) {
	for i := range j.Frames {
		f := &j.Frames[i]
		p := &b.parts[b.partOf(f.Skb, f.EnterMonoNs)]
		p.Frames = append(p.Frames, *f)
	}
	for i := range j.Facts {
		f := &j.Facts[i]
		p := &b.parts[b.partOf(f.Skb, f.AtMonoNs)]
		p.Facts = append(p.Facts, *f)
	}
	for i := range j.Ends {
		e := &j.Ends[i]
		p := &b.parts[b.partOf(e.Skb, e.AtMonoNs)]
		p.Ends = append(p.Ends, *e)
	}
	b.dealExtras(j)
	for i := range j.Links {
		l := &j.Links[i]
		skb := l.Skb
		if l.Journey != j.ID {
			skb = l.OtherSkb
		}
		p := &b.parts[b.partOf(skb, l.AtMonoNs)]
		p.Links = append(p.Links, *l)
	}
	b.parts[0].LostFrames = j.LostFrames
	for i := range b.parts {
		p := &b.parts[i]
		p.Unfinished = j.Unfinished && len(p.Ends) < p.skbs
		p.Evicted = j.Evicted
		p.Incomplete = j.Incomplete || j.LostFrames > 0
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
