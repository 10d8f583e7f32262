package spans

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// Function names a kernel function.
type Function struct {
	Name   string // as in /proc/kallsyms
	Module string // "" for the kernel image itself
}

// Names gives names to the numbers that the kernel reported. A Builder asks
// for each function, location and reason once and remembers the answer, but for a
// namespace each time, since its number is given to another one when it has gone. An
// unknown number gets an empty string (Function: an empty Name), and the
// Builder writes the number instead.
type Names interface {
	// Function names the function that is entered at a kernel address.
	Function(addr uint64) Function
	// Location names an address inside a function as symbol+0xoffset.
	Location(addr uint64) (symbol string)
	// DropReason names a value of enum skb_drop_reason.
	DropReason(value uint32) string
	// NetNS names the network namespace that has an inode number at a Unix time:
	// when one has gone, another gets its number.
	NetNS(inum uint32, unixNs uint64) string
}

// Clock converts times.
type Clock interface {
	// OffsetNs is CLOCK_REALTIME − CLOCK_MONOTONIC in nanoseconds as it was at
	// a CLOCK_MONOTONIC time.
	OffsetNs(monoNs uint64) int64
}

// Direction tells which way a packet went through this kernel.
type Direction uint8

// The directions. A packet that is sent first is DirectionTx even where a
// local receiver takes it afterwards (loopback, veth).
const (
	DirectionUnknown Direction = iota
	DirectionTx
	DirectionRx
	DirectionForward
)

// String returns "tx", "rx", "forward", or "" for an unknown direction.
func (d Direction) String() string {
	switch d {
	case DirectionTx:
		return "tx"
	case DirectionRx:
		return "rx"
	case DirectionForward:
		return "forward"
	default:
		return ""
	}
}

// Trace is one journey, or one block request with all that it caused, as spans.
// The Trace that a Builder returns is reused by its next Build: copy what you
// keep. Strings in it are immutable and may be
// kept.
type Trace struct {
	ID      [16]byte
	Journey uint64
	// Block marks a trace of the block layer (RequestBuilder): its members about
	// packets are at their zero values, First, Last and DropSpan -1.
	Block bool
	// Spans holds the root first, then its descendants in depth-first order:
	// a parent before its children, siblings by start. So the Depths of
	// consecutive spans draw the tree.
	Spans []Span

	Facts       []event.Facts // copies of the journey's, by AtMonoNs
	First       int32         // index in Facts of the first with a tuple (else the first), -1 without
	Last        int32         // index in Facts of the last with a tuple (else the last), -1 without
	Direction   Direction
	Protocol    string // "icmp", "tcp", "udp" …, "ip proto 42", "ethertype 0x88cc"; "" unknown
	EnterMonoNs uint64 // CLOCK_MONOTONIC of the first entry; where a wait in a TCP socket is known, of that's begin
	ExitMonoNs  uint64 // CLOCK_MONOTONIC of the last return
	OffsetNs    int64  // CLOCK_REALTIME − CLOCK_MONOTONIC used for every time of this trace

	// How it ended: "delivered", "forwarded", "consumed", "dropped", "freed", "merged",
	// "absorbed", "deferred", "stolen", "queued", "evicted" or "unfinished", and what
	// docs/spans.md adds for XDP; of the block layer "complete" or "unfinished".
	End         string
	EndFunction string      // whose verdict made it "stolen" or "queued", else ""
	Ends        []event.End // copies of the journey's, by AtMonoNs
	// Links are copies of the journey's, by AtMonoNs; the root's Links are made of
	// them.
	Links        []event.Link
	Conntracks   []event.Conntrack
	Rules        []event.Rule
	DropReason   string      // name of the first drop's reason, "" without a drop
	DropLocation string      // symbol+0xoffset of the first drop, "" unknown
	DropRule     *event.Rule // what of a packet filter made the first drop, nil unknown; of Rules
	DropSpan     int32       // index of the span that dropped it; 0 is the root, -1 without a drop
	Delivered    bool        // a socket took an skb of the packet, so a drop of another was not its end
	Waits        int         // spans of waits
	LostFrames   uint32      // frames that the kernel entered and that never came
	Unfinished   bool
	Evicted      bool
	Incomplete   bool // frames are missing or times were made up
	Shed         bool // functions were shed meanwhile: their frames may be missing, too
	Correlated   bool // the root names a span of an application that is sampled
	// Sampling is the zero value of a Copy and a Summary, too: another sampler decided
	// on the trace that they are a part of.
	Sampling Sampling
	// CorrelatedByWire says that only what came over a network names such spans.
	CorrelatedByWire bool
	// Copy marks what Summaries make of another Trace: ID is the application's trace,
	// and the root's Parent the span of the summary.
	Copy bool
	// Summary marks the one span that Summaries make: ID is the application's trace,
	// and the root's Parent the application's span.
	Summary bool

	owners  []event.Owner // copies of the journey's, by AtMonoNs
	apps    []appSpan     // what the root has links to, of the builder
	strings []string      // what list attributes refer to
}

// Changed tells in what a frame's skb differs from the frame before it in the
// order of Spans (of the same skb). The first frame of an skb has them all.
type Changed uint16

// What may change from frame to frame.
const (
	ChangedLen Changed = 1 << iota
	ChangedMark
	ChangedInterface
	ChangedNetNS
	ChangedTuple
	ChangedCPU
	ChangedEncapsulated // with ChangedTuple: the packet is in a tunnel's, or in one more
	ChangedDecapsulated // with ChangedTuple: it has left one
)

// Span is one span. Its kind is INTERNAL.
type Span struct {
	ID          [8]byte
	Parent      [8]byte // zero for the root
	Name        string
	StartUnixNs uint64 // CLOCK_REALTIME; 1 ns early where the span would stick out of its parent otherwise
	EndUnixNs   uint64 // CLOCK_REALTIME, at least StartUnixNs+1
	EnterMonoNs uint64 // CLOCK_MONOTONIC, exact
	ExitMonoNs  uint64 // CLOCK_MONOTONIC, exact; of an entry-only span its last child's

	Frame       event.Frame // zero for the root
	Function    Function    // zero for the root
	Stage       Stage
	Facts       int32 // index in Trace.Facts of those in force, -1 unknown
	ParentIndex int32 // index in Trace.Spans, -1 for the root
	Depth       int32 // 0 for the root
	SelfNs      uint64
	Changed     Changed
	Incomplete  bool   // the return was never seen; ExitMonoNs is the journey's end
	Error       bool   // status Error
	Message     string // of the status

	// Block is the request or bio of a span of the block layer, nil on a span
	// of a packet. It lasts until the next Build.
	Block *event.Block
	// Wait marks the time in which nothing was done: with Block the time before
	// the issue of its parent's request, which begins where it ends; else a packet's
	// in a queue, and of Frame only Skb is set.
	Wait bool

	Attrs  []Attr
	Events []SpanEvent
	Links  []Link
}

// SpanEvent is something that happened at one time within a span.
type SpanEvent struct {
	Name   string
	UnixNs uint64 // CLOCK_REALTIME
	Attrs  []Attr
}

// Link points from a span to a span of another trace.
type Link struct {
	TraceID [16]byte
	SpanID  [8]byte
	Attrs   []Attr
}

// Root returns the root span, nil for a trace without spans.
func (t *Trace) Root() *Span {
	if len(t.Spans) == 0 {
		return nil
	}
	return &t.Spans[0]
}

// FactsOf returns the facts in force in a span, nil when they are unknown.
func (t *Trace) FactsOf(s *Span) *event.Facts { return t.factsAt(s.Facts) }

// FirstFacts returns the facts that describe the packet at its start, nil when
// there are none.
func (t *Trace) FirstFacts() *event.Facts { return t.factsAt(t.First) }

// LastFacts returns the facts that describe the packet at its end, nil when
// there are none.
func (t *Trace) LastFacts() *event.Facts { return t.factsAt(t.Last) }

func (t *Trace) factsAt(i int32) *event.Facts {
	if i < 0 || int(i) >= len(t.Facts) {
		return nil
	}
	return &t.Facts[i]
}
