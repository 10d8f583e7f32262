package spans

import (
	"strconv"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// place is an interface or a network namespace that the packet passed.
type place struct {
	netns, ifindex uint32
	name           [16]byte
}

// rootAttrs gives the root span its attributes, the identifying ones first:
// receivers that cut long traces or attributes keep the beginning.
func (b *Builder) rootAttrs() {
	t := &b.trace
	from := len(b.attrs)
	if f := t.FirstFacts(); f != nil {
		b.tupleAttrs(f)
		b.protocolAttrs(f)
		b.tunnelAttrs()
	}
	b.directionAttrs()
	if t.DropSpan >= 0 {
		b.rootDrop()
	}
	b.add(StringAttr(KeyEnd, t.End))
	if t.EndFunction != "" {
		b.add(StringAttr(KeyEndFunction, t.EndFunction))
	}
	b.appAttrs()
	if f := t.FirstFacts(); f != nil {
		b.placeAttrs()
		b.headerAttrs(f)
	}
	b.conntrackAttrs()
	b.ownerAttrs()
	b.skbAttrs()
	b.rootExtras()
	b.retransmitAttr()
	b.timeAttrs()
	b.waitAttrs()
	b.lossAttrs()
	t.Spans[0].Attrs = b.cut(from)
	b.events = b.events[:0]
	b.receiveEvent()
	b.readEvent()
	b.conntrackEvents()
	t.Spans[0].Events = b.events
}

func (b *Builder) protocolAttrs(f *event.Facts) {
	t := &b.trace
	if s := transport(f); s != "" {
		b.add(StringAttr(KeyNetworkTransport, s))
	}
	if s := networkType(f); s != "" && f.Flags&event.FactsTuple != 0 {
		b.add(StringAttr(KeyNetworkType, s))
	}
	if t.Protocol != "" {
		b.add(StringAttr(KeyProtocol, t.Protocol))
	}
	if f.EtherType != 0 {
		b.add(IntAttr(KeyEtherType, int64(f.EtherType)))
	}
}

func (b *Builder) directionAttrs() {
	switch d := b.trace.Direction; d {
	case DirectionTx:
		b.add(StringAttr(KeyNetworkIODirection, "transmit"))
		b.add(StringAttr(KeyDirection, d.String()))
	case DirectionRx:
		b.add(StringAttr(KeyNetworkIODirection, "receive"))
		b.add(StringAttr(KeyDirection, d.String()))
	case DirectionForward:
		b.add(StringAttr(KeyDirection, d.String()))
	case DirectionUnknown:
	}
}

func (b *Builder) rootDrop() {
	t := &b.trace
	if !t.Delivered {
		b.add(StringAttr(KeyErrorType, t.DropReason))
	}
	b.add(StringAttr(KeyDropReason, t.DropReason))
	if t.DropLocation != "" {
		b.add(StringAttr(KeyDropLocation, t.DropLocation))
	}
	drops := int64(0)
	for i := range t.Ends {
		if t.Ends[i].How == event.EndDropped {
			drops++
		}
	}
	if drops > 1 {
		b.add(IntAttr(KeyDropCount, drops))
	}
	if t.DropRule != nil {
		b.ruleAttrs(t.DropRule)
	}
}

// placeAttrs adds the interfaces and network namespaces in the order in which
// the packet came to them.
func (b *Builder) placeAttrs() {
	t := &b.trace
	b.places = b.places[:0]
	at := len(t.strings)
	for i := range t.Facts {
		f := &t.Facts[i]
		if f.Interface[0] != 0 && b.arrive(place{f.NetNS, f.Ifindex, f.Interface}) {
			t.strings = append(t.strings, b.names.fixedString(f.Interface))
		}
	}
	if n := len(t.strings) - at; n > 0 {
		b.add(StringAttr(KeyNetworkInterfaceName, t.strings[at]))
		b.add(listAttr(KeyInterfaces, at, n))
	}
	b.netnsAttrs()
}

func (b *Builder) netnsAttrs() {
	t := &b.trace
	b.places = b.places[:0]
	at := len(t.strings)
	for i := range t.Facts {
		f := &t.Facts[i]
		if inum := f.NetNS; inum != 0 && b.arrive(place{netns: inum}) {
			name := b.names.netNS(inum, t.unix(f.AtMonoNs))
			if len(b.places) == 1 {
				b.add(IntAttr(KeyNetNSInum, int64(inum)))
				if name != "" {
					b.add(StringAttr(KeyNetNSName, name))
				}
			}
			if name == "" {
				name = b.netnsNumber(inum)
			}
			t.strings = append(t.strings, name)
		}
	}
	if n := len(t.strings) - at; n > 1 {
		b.add(listAttr(KeyNetNSNames, at, n))
	}
}

// arrive records a place and says whether it is a new one.
func (b *Builder) arrive(p place) bool {
	for i := range b.places {
		if b.places[i] == p {
			return false
		}
	}
	b.places = append(b.places, p)
	return true
}

// netnsNumber is the decimal form of an inode number.
func (b *Builder) netnsNumber(inum uint32) string {
	var k [16]byte
	return b.names.fixedString([16]byte(strconv.AppendUint(k[:0], uint64(inum), 10)[:16]))
}

// headerAttrs adds the fields of the transport header that tell packets apart.
func (b *Builder) headerAttrs(f *event.Facts) {
	if f.Flags&event.FactsTuple == 0 {
		return
	}
	if f.Protocol == protoTCP && f.Flags&event.FactsPorts != 0 {
		b.add(IntAttr(KeyTCPSeq, int64(f.TCPSeq)))
		b.add(IntAttr(KeyTCPAck, int64(f.TCPAck)))
		b.add(IntAttr(KeyTCPFlags, int64(f.TCPFlags)))
	}
	if f.Flags&event.FactsICMP != 0 {
		b.add(IntAttr(KeyICMPType, int64(f.ICMPType)))
		b.add(IntAttr(KeyICMPCode, int64(f.ICMPCode)))
		b.add(IntAttr(KeyICMPID, int64(f.ICMPID)))
		b.add(IntAttr(KeyICMPSeq, int64(f.ICMPSeq)))
	}
}

// processAttrs adds the thread that was current.
func (b *Builder) processAttrs(f *event.Facts) {
	if f.TGID == 0 {
		return
	}
	b.add(IntAttr(KeyProcessPID, int64(f.TGID)))
	b.add(IntAttr(KeyThreadID, int64(f.TID)))
	if name := b.names.fixedString(f.Comm); name != "" {
		b.add(StringAttr(KeyThreadName, name))
	}
}

func (b *Builder) skbAttrs() {
	t := &b.trace
	n := b.nester.nodes
	b.add(IntAttr(KeyFrameCount, int64(len(n))))
	if len(n) == 0 {
		return
	}
	first := &t.Spans[n[0].span].Frame
	last := first
	for i := len(n) - 1; i > 0; i-- {
		if f := &t.Spans[n[i].span].Frame; f.Flags&event.FrameNoSkb == 0 {
			last = f
			break
		}
	}
	b.add(HexAttr(KeySkb, b.skbAddress(first.Skb)))
	b.add(IntAttr(KeySkbLenFirst, int64(first.Len)))
	b.add(IntAttr(KeySkbLenLast, int64(last.Len)))
}

func (b *Builder) timeAttrs() {
	t := &b.trace
	b.add(IntAttr(KeyDurationNs, int64(t.ExitMonoNs-t.EnterMonoNs)))
	b.add(IntAttr(KeyStartUnixNs, int64(t.unix(t.EnterMonoNs))))
	b.add(IntAttr(KeyStartMonoNs, int64(t.EnterMonoNs)))
	var perStage [stageCount]uint64
	for i := 1; i < len(t.Spans); i++ {
		perStage[t.Spans[i].Stage] += t.Spans[i].SelfNs
	}
	for s := StageSocket; s < stageCount; s++ {
		if perStage[s] > 0 {
			b.add(IntAttr(stageKey(s), int64(perStage[s])))
		}
	}
}

// lossAttrs marks a trace that is damaged and says how.
func (b *Builder) lossAttrs() {
	t := &b.trace
	b.add(HexAttr(KeyJourney, t.Journey))
	if t.Incomplete {
		b.add(BoolAttr(KeyIncomplete, true))
	}
	if t.Shed {
		b.add(BoolAttr(KeyShed, true))
	}
	if t.LostFrames > 0 {
		b.add(IntAttr(KeyFramesLost, int64(t.LostFrames)))
	}
	if t.Evicted {
		b.add(BoolAttr(KeyEvicted, true))
	}
}
