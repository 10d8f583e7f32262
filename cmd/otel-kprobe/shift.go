package main

import "github.com/otel-kprobe/otel-kprobe/internal/journey"

// shift is the time in which what begins is a pipeline's: when the filter of a
// service changes, two sets of programs follow packets for a while, and each packet
// is shown by the set in whose shift it began. Times are CLOCK_MONOTONIC; an end
// of 0 is none.
type shift struct{ fromMonoNs, untilMonoNs uint64 }

func (s shift) has(startMonoNs uint64) bool {
	return startMonoNs >= s.fromMonoNs && (s.untilMonoNs == 0 || startMonoNs < s.untilMonoNs)
}

// handedOver counts journeys of another's shift.
type handedOver struct {
	journeys, frames uint64
	unfinished       uint64 // among them
}

func (h *handedOver) add(j *journey.Journey) {
	h.journeys++
	h.frames += uint64(len(j.Frames))
	if j.Unfinished {
		h.unfinished++
	}
}
