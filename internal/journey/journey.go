// Package journey joins the kernel's events into journeys: all frames of one
// packet, its clones, copies and segments included. It decides when a journey
// has ended and keeps its memory bounded; what it gives up is counted.
package journey

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// Journey is what was seen of one packet. The Tracker hands it to its callback
// and takes its memory back when the callback returns: copy what you keep.
type Journey struct {
	ID     uint64
	Frames []event.Frame // in the order in which they returned
	Facts  []event.Facts // in the order of AtMonoNs
	Clones []event.Clone // in the order of AtMonoNs
	Ends   []event.End   // in the order of AtMonoNs
	Links  []event.Link  // in the order of AtMonoNs; of each, ID is Journey or Other

	Stacks    []Stack        // in the order in which they came
	Addresses []uint64       // of all Stacks, see AddressesOf
	Fields    []event.Fields // in the order of AtMonoNs
	Owners    []event.Owner  // in the order of AtMonoNs
	Apps      []event.App    // in the order of AtMonoNs

	Conntracks []event.Conntrack // in the order of AtMonoNs
	Rules      []event.Rule      // in the order of AtMonoNs

	// LostFrames counts the frames that the kernel entered on this journey's
	// ended skbs and whose records never came.
	LostFrames uint32
	// Unfinished is set when the journey was closed before every skb of it
	// had ended (at exit, or after Options.IdleNs).
	Unfinished bool
	// Evicted is set when the journey was closed to keep memory bounded, or
	// when something was left out of it for that reason (in the kernel, too:
	// one of its Ends is an event.EndEvicted).
	Evicted bool
	// Incomplete is set when records other than frames are known to be
	// missing: the start of the journey (or when it may have begun further on
	// than the packet did: event.FactsLate), or the end of an skb whose address
	// came back within the journey.
	Incomplete bool
	// Shed is set when frames of functions that were shed may be missing.
	Shed bool
}
