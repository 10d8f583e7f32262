package event

// CauseWhat says what a program did with a packet.
type CauseWhat uint8

// What a program did: enum cause_what of bpf/records.h.
const (
	// CauseWrite: it wrote bytes to a TCP socket that the packet carries.
	CauseWrite CauseWhat = 1
	// CauseSender: its thread sent the packet at AtMonoNs, or was interrupted by
	// the packet's reception then: which of both, the functions tell.
	CauseSender CauseWhat = 2
	// CauseReader: its thread got the packet's data at AtMonoNs.
	CauseReader CauseWhat = 3
)

// Cause is what a program did with a tracked skb, and in which span of its own.
type Cause struct {
	Journey     uint64
	Skb         uint64
	AtMonoNs    uint64     // when the kernel told
	WriteMonoNs uint64     // CauseWrite: when the program wrote, else 0
	App         AppContext // the span, none for Source 0
	Seq         uint32     // CauseWrite: TCP sequence number of the write's first byte
	TID         uint32     // the thread that was current at AtMonoNs
	CPU         uint16
	Source      AppSource // who told App; 0: nobody, and the thread may still have been in a span
	What        CauseWhat
}
