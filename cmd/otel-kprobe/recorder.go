package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

// newRecorder begins the recording of a run in file. Without a file it gives nil.
func newRecorder(file *os.File, h host, clock *kernel.Clock, seed [16]byte, reported reported) (*recording.Writer, error) {
	if file == nil {
		return nil, nil
	}
	writer, err := recording.NewWriter(file, recordingHeader(h, clock, seed, reported))
	if err != nil {
		return nil, err
	}
	clock.OnChange(func(fromMonoNs uint64, offsetNs int64) {
		_ = writer.ClockOffset(fromMonoNs, offsetNs) // it keeps its error for Close
	})
	return writer, nil
}

// recordingHeader says where and how a run is made.
func recordingHeader(h host, clock *kernel.Clock, seed [16]byte, reported reported) recording.Header {
	now := clock.MonoNs()
	return recording.Header{
		KernelRelease:  h.release,
		Architecture:   h.arch,
		BootID:         firstLine("/proc/sys/kernel/random/boot_id"),
		HostName:       h.name,
		HostID:         h.id,
		ProgramVersion: version(),
		StartMonoNs:    now,
		ClockOffsetNs:  clock.OffsetNs(now),
		Seed:           seed,
		Tracker:        trackerOptions(),
		Block:          blockOptions(),
		SkbFields:      reported.skbFields,

		SampleThreshold: reported.sampleThreshold,
	}
}

// closeRecorder completes the file of --record.
func closeRecorder(writer *recording.Writer, file *os.File, counters map[string]uint64) error {
	if file == nil {
		return nil
	}
	_ = writer.Counters(counters) // Close has its error
	if err := errors.Join(writer.Close(), file.Close()); err != nil {
		return fmt.Errorf("write the file of --record: %w", err)
	}
	return nil
}
