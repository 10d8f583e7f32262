package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

// recordingHeader says where and how this run is made.
func recordingHeader(clock *kernel.Clock, seed [16]byte) (recording.Header, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return recording.Header{}, fmt.Errorf("read the kernel's release: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return recording.Header{}, fmt.Errorf("read the host's name: %w", err)
	}
	now := clock.MonoNs()
	return recording.Header{
		KernelRelease:  unix.ByteSliceToString(uts.Release[:]),
		Architecture:   runtime.GOARCH,
		BootID:         firstLine("/proc/sys/kernel/random/boot_id"),
		HostName:       host,
		HostID:         firstLine("/etc/machine-id"),
		ProgramVersion: version(),
		StartMonoNs:    now,
		ClockOffsetNs:  clock.OffsetNs(now),
		Seed:           seed,
		Tracker:        trackerOptions(),
	}, nil
}

// firstLine is the first line of a small file, "" when it can't be read.
func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
