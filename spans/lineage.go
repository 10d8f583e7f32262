package spans

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// kinship says what the packet of a linked trace is to the packet of the trace
// that has the link.
type kinship struct {
	to   string // on the packet that was made, merged, chained or retransmitted, about the other one
	from string // on the other one, about that packet
}

// kinshipOf names a link, by the function that made it.
func (b *Builder) kinshipOf(l *event.Link) kinship {
	switch l.What {
	case event.LinkRetransmitted:
		return kinship{"retransmission_of", "retransmission"}
	case event.LinkDerived:
		switch b.names.function(l.Func).Name {
		case "skb_segment":
			return kinship{"segment_of", "segment"}
		case "skb_morph":
			return kinship{"reassembled", "reassembled_into"}
		}
		return kinship{"fragment_of", "fragment"}
	case event.LinkMerged:
		name := b.names.function(l.Func).Name
		if name == "inet_frag_reasm_finish" || name == "skb_try_coalesce" && b.reassembles(l) {
			return kinship{"reassembled_into", "reassembled"}
		}
		return kinship{"merged_into", "merged"}
	case event.LinkChained:
		return kinship{"chained_to", "chained"}
	}
	return kinship{}
}

// reassembles says whether skb_try_coalesce merged fragments of a packet, and not
// segments in TCP's queue: TCP had not received them.
func (b *Builder) reassembles(l *event.Link) bool {
	t := &b.trace
	for i := 1; i < len(t.Spans); i++ {
		s := &t.Spans[i]
		if s.Wait || s.EnterMonoNs > l.AtMonoNs {
			continue
		}
		if f := b.names.function(s.Frame.Func); f.stage == StageTCP && f.side == sideRx {
			return false
		}
	}
	return true
}

// tells says whether a link holds: what looks like a retransmission is one only
// where the packets were sent, and began with TCP. A packet that is received out
// of order, or of whose segments one begins a journey anew, looks the same.
func (b *Builder) tells(l *event.Link) bool {
	if l.What != event.LinkRetransmitted {
		return true
	}
	if b.trace.Direction != DirectionTx || len(b.nester.nodes) == 0 {
		return false
	}
	switch b.trace.Spans[b.nester.nodes[0].span].Stage {
	case StageQdisc, StageDevice, StageDriver, StageXDPTC, StageReceive:
		return false
	}
	return true
}

// retransmitAttr numbers a retransmission.
func (b *Builder) retransmitAttr() {
	t := &b.trace
	for i := range t.Links {
		if l := &t.Links[i]; l.What == event.LinkRetransmitted && l.Journey == t.Journey && b.tells(l) {
			b.add(IntAttr(KeyTCPRetransmit, int64(l.Number)))
			return
		}
	}
}

// rootLinks gives the root its links. Ids follow from the numbers of journeys, so
// the other trace may have been sent already, or be yet to come.
func (b *Builder) rootLinks(p *part) {
	t := &b.trace
	if len(t.Links) == 0 && len(p.kin) == 0 && len(b.found) == 0 {
		return
	}
	b.links = b.links[:0]
	for i := range t.Links {
		l := &t.Links[i]
		if l.Other == 0 || !b.tells(l) {
			continue
		}
		other, kind := l.Other, b.kinshipOf(l).to
		if l.Journey != t.Journey {
			other, kind = l.Journey, b.kinshipOf(l).from
		}
		b.linkTo(other, 0, kind)
	}
	for _, k := range p.kin {
		kind := "copy"
		if k < p.number {
			kind = "copy_of" // a copy has a higher number than what it was made from
		}
		b.linkTo(t.Journey, k, kind)
	}
	for i := range b.found {
		b.links = append(b.links, b.linkToApp(&b.found[i]))
	}
	t.Spans[0].Links = b.links
}

// linkTo adds a link to the root of a part of a journey.
func (b *Builder) linkTo(journey uint64, part int, kind string) {
	id, base := b.ids.part(journey, part)
	from := len(b.attrs)
	b.add(StringAttr(KeyLinkKind, kind))
	b.add(HexAttr(KeyJourney, journey))
	b.links = append(b.links, Link{TraceID: id, SpanID: spanID(base, 0), Attrs: b.cut(from)})
}

// absorb marks the ends of skbs whose data went on in another one. The kernel
// frees an skb that became a piece of another with that; older ones (5.10) call it a
// drop.
func (b *Builder) absorb() {
	t := &b.trace
	for i := range t.Links {
		switch l := &t.Links[i]; {
		case l.What == event.LinkMerged && l.Journey == t.Journey:
			how := event.EndMerged
			if b.names.function(l.Func).Name == "inet_frag_reasm_finish" {
				how = event.EndAbsorbed
			}
			t.endAs(l.Skb, l.AtMonoNs, how)
		case l.What == event.LinkDerived && l.Other == t.Journey && b.kinshipOf(l).from == "reassembled_into":
			t.endAs(l.OtherSkb, l.AtMonoNs, event.EndAbsorbed)
		}
	}
}

// endAs says how the skb ended that has an address at a time: unless it is still
// there, or was given up.
func (t *Trace) endAs(skb, atMonoNs uint64, how event.EndHow) {
	for i := range t.Ends {
		if e := &t.Ends[i]; e.Skb == skb && e.AtMonoNs >= atMonoNs {
			if e.How != event.EndEvicted {
				e.How = how
			}
			return // a later one is of another skb at that address
		}
	}
}
