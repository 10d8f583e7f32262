package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

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

// summary says what the kernel side and the tracker came to.
func (r *packetsRun) summary(live int64, tracked int) export.Summary {
	counters := r.counters()
	return export.Summary{
		DurationNs: uint64(time.Since(r.started)),
		Attached:   uint64(r.kernel.attachment.Attached),
		Skipped:    uint64(r.kernel.skipped),
		Backend:    string(r.kernel.backend),
		AttachNs:   uint64(r.kernel.took),
		Frames:     r.pipeline.frames,
		Submitted:  counters.SubmittedFrames,
		Tracked:    uint64(max(tracked, int(live))),
		Traces:     r.pipeline.traces,
		Spans:      r.pipeline.spans,
		KernelLost: r.kernelLost(counters),
		Tracker:    export.NewTrackerSummary(r.pipeline.tracker.Stats()),
	}
}

// counters reads those of the kernel side.
func (r *packetsRun) counters() bpf.Counters {
	counters, err := r.kernel.objects.Counters()
	if err != nil {
		r.logger.Warn("the summary lacks the kernel's counters", "error", err)
	}
	return counters
}

// kernelLost names what the kernel side lost.
func (r *packetsRun) kernelLost(counters bpf.Counters) map[string]uint64 {
	misses, err := r.kernel.objects.RecursionMisses()
	if err != nil {
		r.logger.Warn("the summary lacks the probes that recursion left out", "error", err)
	}
	return map[string]uint64{
		"ring_full_frames": counters.RingFullFrames,
		"ring_full_facts":  counters.RingFullFacts,
		"ring_full_ends":   counters.RingFullEnds,
		"tracked_full":     counters.TrackedFull,
		"slots_full":       counters.SlotsFull,
		"returns_lost":     counters.ReturnsLost,
		"recursion_missed": misses + r.missed,
		"damaged_records":  r.pipeline.damaged,
		"evicted_skbs":     r.capture.evicted,
	}
}

func (r *packetsRun) addExporters(s *export.Summary) {
	for _, e := range r.out.exporters {
		s.Exporters = append(s.Exporters, export.NewExporterSummary(e.name, e.Stats()))
	}
}

// closeRecording completes the file of --record.
func (r *packetsRun) closeRecording(counters map[string]uint64) error {
	if r.record == nil {
		return nil
	}
	err := errors.Join(
		r.capture.recorder.Counters(counters),
		r.capture.recorder.Close(),
		r.record.Close(),
	)
	if err != nil {
		return fmt.Errorf("write --record file: %w", err)
	}
	return nil
}
