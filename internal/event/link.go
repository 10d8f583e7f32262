package event

// LinkWhat says what joins two packets.
type LinkWhat uint8

// What joins packets. The numbers are those of bpf/records.h, but for LinkRetransmitted.
const (
	// LinkDerived: the packet was made from the other one, as its segment or
	// fragment, or as the whole of which the other one is the first fragment. Its
	// journey begins here.
	LinkDerived LinkWhat = 1
	// LinkMerged: the packet goes on in the other one.
	LinkMerged LinkWhat = 2
	// LinkRetransmitted: the packet has TCP data that the other one had carried
	// before. Found in user space (journey.Tracker), never sent by the kernel side.
	LinkRetransmitted LinkWhat = 3
	// LinkChained: the packet goes with the other one, whose functions see both, until
	// it is cut off again, as it was.
	LinkChained LinkWhat = 4
)

// Link says that two packets have to do with one another.
type Link struct {
	Journey  uint64 // of the packet that was made, merged, chained or retransmitted
	Other    uint64 // of the other one; 0 when it is not known
	Skb      uint64 // 0 for LinkRetransmitted
	OtherSkb uint64 // 0 for LinkRetransmitted
	Func     uint64 // kernel address of the function that made, merged or chained it; 0 for LinkRetransmitted
	AtMonoNs uint64
	Number   uint32 // LinkRetransmitted: 1 for the first retransmission, 2 for the next …
	CPU      uint16
	What     LinkWhat
}
