package spans

import "github.com/otel-kprobe/otel-kprobe/internal/journey"

// Options configure a Builder.
type Options struct {
	Names Names
	Clock Clock
	// Seed makes the ids and the hashes of kernel addresses of one run differ
	// from those of any other. Random bytes, 16 of them, kept for the run.
	Seed [16]byte
	// RawAddresses writes kernel addresses as they are instead of hashed.
	RawAddresses bool
	// ReturnMeaning says how to read what a function returned; nil uses
	// KnownReturn.
	ReturnMeaning func(Function) Return
}

// Builder turns journeys into traces. It is not safe for concurrent use.
type Builder struct {
	o     Options
	trace Trace
}

// Return says how to read the return register of a function.
type Return uint8

// The ways of reading a return register.
const (
	ReturnNone  Return = iota // it means nothing: not written
	ReturnInt32               // a C int: an errno, a verdict, a NET_XMIT code
	ReturnInt64               // a C long
	ReturnUint32
	ReturnBool // a C bool: only the lowest bit counts
)

// NewBuilder makes a Builder.
func NewBuilder(o Options) *Builder { return &Builder{o: o} }

// Build makes the trace of a journey. The Trace is reused by the next Build.
func (b *Builder) Build(j *journey.Journey) *Trace {
	b.trace.Journey = j.ID
	return &b.trace
}
