// Package blockio joins the kernel's events of the block layer into requests:
// each with the requests that it caused on the devices below, the bios that it
// was merged from and the attempts that it took. It also counts latencies. Its
// memory is bounded; what it gives up is counted.
package blockio

import "github.com/otel-kprobe/otel-kprobe/internal/event"

// Request is one block request, or one bio of a device without requests, with
// all that belongs to it. The Tracker hands the topmost one to its callback and
// takes the memory back when the callback returns: copy what you keep.
type Request struct {
	event.Block
	Bio      bool          // Block is of a bio (event.KindBio), not of a request
	Merges   []event.Block // event.KindMerge, as they came
	Requeues []event.Block // event.KindRequeue, in the order of time
	Children []*Request    // what it caused on the devices below, by StartMonoNs

	// Unfinished is set when the end was not seen: CompleteMonoNs is then when
	// the tracker gave it up.
	Unfinished bool
	// Orphan is set when the record of the Parent never came.
	Orphan bool
}
