package event

// AppWhat says what an application did with a packet.
type AppWhat uint8

// What an application did: enum app_what of bpf/records.h.
const (
	// AppWrites: it wrote bytes to a TCP socket that the packet carries.
	AppWrites AppWhat = 1
	// AppSends: its thread sent the packet at AtMonoNs, or was interrupted by
	// the packet's reception then: which of both, the functions tell.
	AppSends AppWhat = 2
	// AppReads: its thread got the packet's data at AtMonoNs.
	AppReads AppWhat = 3
	// AppRequests: the packet is of a request that names the span, sent by whoever
	// made the request. User space's own, by what packets of the connection say.
	AppRequests AppWhat = 4
	// AppAnswers: the packet is of the answer to such a request, or acknowledges
	// it. User space's own.
	AppAnswers AppWhat = 5
)

// App is what an application did with a tracked skb, and in which span of its own.
type App struct {
	Journey     uint64
	Skb         uint64
	AtMonoNs    uint64     // when the kernel told
	WriteMonoNs uint64     // AppWrites: when the program wrote, else 0
	Context     AppContext // the span, none for Source 0
	Seq         uint32     // AppWrites: TCP sequence number of the write's first byte
	TID         uint32     // the thread that was current at AtMonoNs
	CPU         uint16
	Source      AppSource // who told Context; 0: nobody, and the thread may still have been in a span
	What        AppWhat
	Flags       AppFlags // of Context
}
