package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

// damagedRecords is what the summary calls records that can't be decoded.
const damagedRecords = "damaged_records"

// stillTracked counts the skbs that are followed at the end, by counter and by
// what the map holds.
func (r *packetsRun) stillTracked() (live int64, tracked int) {
	live, err := r.kernel.objects.Live()
	if err != nil {
		r.logger.Warn("the summary lacks the number of tracked skbs", "error", err)
	}
	tracked, err = r.kernel.objects.TrackedCount()
	if err != nil {
		r.logger.Warn("the summary lacks the size of the tracked map", "error", err)
	}
	return live, tracked
}

// summary says what the kernel side and the tracker came to. missed are the
// hits that the kernel's links left out.
func (r *packetsRun) summary(live int64, tracked int, missed uint64) export.Summary {
	s := r.counted(missed)
	s.Tracked = uint64(max(tracked, int(live)))
	s.KernelLost["returns_lost"] += r.unreturned()
	return s
}

// counted is the summary so far: what is under way is no loss yet.
func (r *packetsRun) counted(missed uint64) export.Summary {
	counters, err := r.kernel.objects.Counters()
	if err != nil {
		r.logger.Warn("the summary lacks the kernel's counters", "error", err)
	}
	s := r.pipeline.summary()
	s.Attached = uint64(r.kernel.attachment.Attached)
	s.Skipped = uint64(r.kernel.skipped)
	s.Backend = string(r.kernel.backend)
	s.AttachNs = uint64(r.kernel.took)
	s.Submitted = counters.SubmittedFrames
	s.Unsampled = counters.Unsampled
	s.KernelLost = r.kernelLost(counters, missed)
	if err := r.shedding.summarize(&s); err != nil {
		r.logger.Warn("the summary lacks the frames that were not recorded", "error", err)
	}
	r.watchdog.summarize(&s)
	return s
}

// kernelLost names what the kernel side lost.
func (r *packetsRun) kernelLost(counters bpf.Counters, missed uint64) map[string]uint64 {
	misses, err := r.kernel.objects.RecursionMisses()
	if err != nil {
		r.logger.Warn("the summary lacks the probes that recursion left out", "error", err)
	}
	return map[string]uint64{
		"ring_full_extras": counters.RingFullExtras,
		"ring_full_frames": counters.RingFullFrames,
		"ring_full_facts":  counters.RingFullFacts,
		"left_out":         counters.LeftOutStarts,
		"ring_full_ends":   counters.RingFullEnds,
		"tracked_full":     counters.TrackedFull,
		"slots_full":       counters.SlotsFull,
		"returns_lost":     counters.ReturnsLost,
		"recursion_missed": misses + missed,
		damagedRecords:     r.pipeline.damaged,
		"evicted_skbs":     r.capture.evicted,
	}
}

// unreturned counts the calls that had not returned when all was detached.
func (r *packetsRun) unreturned() uint64 {
	open, err := r.kernel.objects.OpenSlots()
	if err != nil {
		r.logger.Warn("the summary lacks the calls that had not returned", "error", err)
	}
	openRuns, err := r.programs.open()
	if err != nil {
		r.logger.Warn("the summary lacks the runs of BPF programs that had not returned", "error", err)
	}
	return open + openRuns
}

// summary says what went through the pipeline.
func (p *pipeline) summary() export.Summary {
	s := export.Summary{
		Frames: p.frames,
		Traces: p.traces,
		Spans:  p.spans,
		Waits:  p.waits,
		Summed: p.summed,
		Copied: p.copied,

		PassedOver:       p.only.passedOver,
		WirePassedOver:   p.only.wirePassedOver,
		FramesPassedOver: p.only.framesPassedOver,
		Tracker:          export.NewTrackerSummary(p.tracker.Stats()),

		Block:        p.came > 0,
		Requests:     p.came,
		BlockTracker: export.NewBlockTrackerSummary(p.blocks.Stats()),

		HandedOver:       p.handed.journeys,
		FramesHandedOver: p.handed.frames,
	}
	if p.connections != nil {
		s.Wire = export.NewWireSummary(p.connections.Counters())
	}
	if p.summaries != nil {
		stats := p.summaries.Stats()
		s.SummariesLeftOut, s.CopiesLeftOut = stats.WireLeftOut, stats.CopiesLeftOut
	}
	s.Tracker.Unfinished -= p.handed.unfinished // another set of programs finishes them
	return s
}

// writeSummary writes the file of --summary-file, if there is to be one.
func writeSummary(s *export.Summary, file *os.File) error {
	if file == nil {
		return nil
	}
	if err := errors.Join(s.WriteJSON(file), file.Close()); err != nil {
		return fmt.Errorf("write the file of --summary-file: %w", err)
	}
	return nil
}
