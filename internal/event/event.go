// Package event holds what the kernel reported, as plain values: the waist of
// the program. Above it nothing knows of BPF, below it nothing knows of
// OpenTelemetry. It imports the standard library only.
//
// Values hold no pointers and alias no ring buffer memory, so an event may be
// kept, compared with == and written to a recording. All times are
// CLOCK_MONOTONIC nanoseconds as bpf_ktime_get_ns returns them
// (https://docs.ebpf.io/linux/helper-function/bpf_ktime_get_ns/).
package event

// Kind tells which member of an Event is set.
type Kind uint8

// The kinds of event. Their numbers are those of the records in bpf/records.h.
const (
	KindFrame Kind = 1 // one call of one probed function on one tracked skb
	KindFacts Kind = 2 // what is known of an skb and changes rarely
	KindClone Kind = 3 // an skb that belongs to a journey because another one does
	KindEnd   Kind = 4 // a tracked skb was freed, consumed, dropped or absorbed

	KindRequest Kind = 5 // a block request has completed
	KindBio     Kind = 6 // a bio of a device without requests has completed
	KindMerge   Kind = 7 // one more bio that a request is made of
	KindRequeue Kind = 8 // an attempt of a request was given back

	KindStack     Kind = 9  // a kernel stack, or a caller
	KindFields    Kind = 10 // members of an skb, or bytes of its packet
	KindConntrack Kind = 11 // the connection of an skb, when it or its state has changed
	KindRule      Kind = 12 // what of a packet filter dropped an skb
	KindOwner     Kind = 13 // the socket of a tracked skb became known, with its owner
	KindLink      Kind = 14 // two packets have to do with one another
	KindApp       Kind = 15 // what an application did with a tracked skb
	KindPayload   Kind = 16 // the first bytes of a TCP packet that may tell a request
)

// OfBlock says whether events of the kind are of the block layer.
func (k Kind) OfBlock() bool { return k >= KindRequest && k <= KindRequeue }

// Event is one decoded record: Kind names the member that is set, the other
// members hold whatever an earlier use of the same Event left there.
type Event struct {
	Kind  Kind
	Frame Frame
	Facts Facts
	Clone Clone
	End   End
	Block Block // KindRequest, KindBio, KindMerge, KindRequeue

	Stack     Stack
	Fields    Fields
	Link      Link
	Owner     Owner
	App       App
	Conntrack Conntrack
	Rule      Rule
	Payload   Payload
}

// Journey gives the id of the journey that the event is of, and the event's time:
// of a frame its return. ok is false for events of the block layer, for links, which
// are of two journeys, and for payloads, which tell something of a connection.
func (ev *Event) Journey() (id, monoNs uint64, ok bool) {
	switch ev.Kind {
	case KindFrame:
		return ev.Frame.Journey, ev.Frame.ExitMonoNs, true
	case KindFacts:
		return ev.Facts.Journey, ev.Facts.AtMonoNs, true
	case KindClone:
		return ev.Clone.Journey, ev.Clone.AtMonoNs, true
	case KindEnd:
		return ev.End.Journey, ev.End.AtMonoNs, true
	case KindStack:
		return ev.Stack.Journey, ev.Stack.AtMonoNs, true
	case KindFields:
		return ev.Fields.Journey, ev.Fields.AtMonoNs, true
	case KindConntrack:
		return ev.Conntrack.Journey, ev.Conntrack.AtMonoNs, true
	case KindRule:
		return ev.Rule.Journey, ev.Rule.AtMonoNs, true
	case KindOwner:
		return ev.Owner.Journey, ev.Owner.AtMonoNs, true
	case KindApp:
		return ev.App.Journey, ev.App.AtMonoNs, true
	}
	return 0, 0, false
}

// FrameFlags are properties of one frame.
type FrameFlags uint8

// FrameEntryOnly marks a frame that was reported at its entry (--entry-only):
// ExitMonoNs equals EnterMonoNs and Return is unknown.
const FrameEntryOnly FrameFlags = 1 << 0

const (
	// FrameNoSkb marks a frame of a function without an skb, which ran in a
	// frame of this skb (--non-skb-funcs). Skb, Len, Mark and Facts are those of
	// the frame around it, Ordinal is 0: it is not among the frames that were
	// entered on the skb, and may come after the skb's end.
	FrameNoSkb FrameFlags = 1 << 1
	// FrameCalleesLost marks a frame in which frames with FrameNoSkb may be
	// missing.
	FrameCalleesLost FrameFlags = 1 << 2
	// FrameShed marks a frame that was entered while functions were shed: frames
	// of those may be missing before and after it.
	FrameShed FrameFlags = 1 << 3
)

// Frame is one call of one probed function on one tracked skb.
type Frame struct {
	Journey     uint64 // id of the journey, unique within one run
	Skb         uint64 // kernel address of the sk_buff
	Func        uint64 // kernel address of the function's entry
	Stack       uint64 // stack pointer at entry: a callee's is lower than its caller's on the same kernel stack
	EnterMonoNs uint64 // CLOCK_MONOTONIC at entry
	ExitMonoNs  uint64 // CLOCK_MONOTONIC at return
	Return      uint64 // the return register as it was; the function's type says how many bits mean something
	Len         uint32 // skb->len at entry, bytes
	Mark        uint32 // skb->mark at entry
	Facts       uint32 // Number of the Facts in force at entry
	Ordinal     uint32 // 1 for the first frame entered on this skb, 2 for the next …
	TID         uint32 // thread that was current at entry; in softirq a bystander
	CPU         uint16
	Flags       FrameFlags
}

// FactsFlags are properties of one Facts.
type FactsFlags uint8

const (
	// FactsStart marks the first facts of an skb that starts a journey.
	FactsStart FactsFlags = 1 << 0
	// FactsTuple says that Family, Protocol and the addresses were read.
	FactsTuple FactsFlags = 1 << 1
	// FactsPorts says that SourcePort and DestinationPort were read
	// (TCP, UDP, SCTP; for ICMP echo they are zero and ICMP… are set).
	FactsPorts FactsFlags = 1 << 2
	// FactsICMP says that the ICMP members were read.
	FactsICMP FactsFlags = 1 << 3
	// FactsLate marks a start of which the kernel side can't say that it is the
	// packet's first function: packets were left out shortly before, because
	// the reader was behind.
	FactsLate FactsFlags = 1 << 4
	// FactsSampled says that packets were sampled: Randomness may be set.
	FactsSampled FactsFlags = 1 << 5
)

// Facts is what is known of an skb and changes rarely. It is sent when a
// journey starts and again, with the next Number, when one of its members
// changed; frames refer to it by Number.
type Facts struct {
	Journey         uint64
	Skb             uint64
	AtMonoNs        uint64
	Number          uint32 // 1, 2 … within one skb
	TGID            uint32 // process that was current (0: idle task)
	TID             uint32 // thread that was current
	NetNS           uint32 // inode number of the network namespace, 0 unknown
	Ifindex         uint32 // of skb->dev, 0 when it has none
	MTU             uint32 // of skb->dev, bytes
	Mark            uint32 // skb->mark
	Len             uint32 // skb->len, bytes
	TCPSeq          uint32 // TCP sequence number, host order
	TCPAck          uint32 // TCP acknowledgement number, host order
	TCPPayload      uint32 // bytes after the TCP header, 0 unknown or none
	SourcePort      uint16
	DestinationPort uint16
	ICMPID          uint16 // echo identifier, host order
	ICMPSeq         uint16 // echo sequence number, host order
	EtherType       uint16 // skb->protocol, host order (0x0800 IPv4)
	CPU             uint16
	Flags           FactsFlags
	Family          uint8 // 4, 6, or 0 when the network header was not read
	Protocol        uint8 // IANA protocol number of the transport header
	TCPFlags        uint8 // the flags byte of the TCP header
	ICMPType        uint8
	ICMPCode        uint8
	NetworkOffset   uint16   // of the network header in the skb's memory, bytes; 0 unknown
	NetworkLen      uint32   // of the packet from its network header on, bytes; means something with NetworkOffset
	Source          [16]byte // IPv4 in the first four bytes
	Destination     [16]byte
	Interface       [16]byte // name of skb->dev, NUL-terminated
	Comm            [16]byte // of the thread that was current, NUL-terminated
	Randomness      uint64   // of the packet's flow, 56 bits; 0 unknown
}

// Clone says that an skb now belongs to a journey because it was made from one
// that does: a clone or a copy. A segment or fragment has a journey of its own,
// see Link.
type Clone struct {
	Journey  uint64
	Skb      uint64 // the new one
	Parent   uint64 // the one it was made from
	AtMonoNs uint64
	CPU      uint16
}

// EndHow says how the kernel let go of an skb.
type EndHow uint8

// The ways in which an skb ends. Their numbers are those of bpf/records.h.
const (
	EndDropped  EndHow = 1 // tracepoint skb:kfree_skb: Reason and Location say why and where
	EndConsumed EndHow = 2 // tracepoint skb:consume_skb: the normal end
	EndFreed    EndHow = 3 // freed without a tracepoint (__kfree_skb and its kin)
	EndMerged   EndHow = 4 // its data went into another skb (kfree_skb_partial, GRO)
	EndDeferred EndHow = 5 // delivered, handed to the deferred free of another CPU
	EndEvicted  EndHow = 6 // the program stopped following it
	// EndAbsorbed is never sent by the kernel side: an skb that a Link says to
	// have become a piece of another one was freed with that.
	EndAbsorbed EndHow = 7

	// A packet without an skb, on which an XDP program ran.
	EndPassed     EndHow = 8  // XDP_PASS: an skb was built of it, or should have been
	EndSent       EndHow = 9  // XDP_TX: sent back through the same device
	EndRedirected EndHow = 10 // XDP_REDIRECT
)

// End says that a tracked skb is followed no longer.
type End struct {
	Journey  uint64
	Skb      uint64
	AtMonoNs uint64
	Location uint64 // return address in the function that dropped it, 0 unknown
	Reason   uint32 // enum skb_drop_reason: subsystem in the upper 16 bits; 0 unknown
	Entered  uint32 // frames that were entered on this skb; each should arrive as a Frame
	CPU      uint16
	How      EndHow
}
