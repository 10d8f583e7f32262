package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
)

const (
	defaultRingBytes = 16 << 20
	maxRingBytes     = 1 << 30 // and the largest that the kernel takes is not far above
)

// runFlags say how a tracing run goes; packets and block share them. They are
// not checked before settings has been asked.
type runFlags struct {
	duration    time.Duration
	limit       uint64
	readyFile   string
	summaryFile string
	ringBytes   int
	record      string
}

func (f *runFlags) register(flags *pflag.FlagSet) {
	flags.DurationVar(&f.duration, "duration", 0, "stop after this long (default: at SIGINT or SIGTERM)")
	flags.Uint64Var(&f.limit, "limit-traces", 0, "stop after this many traces (default: no limit)")
	flags.StringVar(&f.readyFile, "ready-file", "", "create this `FILE` once all probes are attached")
	flags.StringVar(&f.summaryFile, "summary-file", "", "write the closing summary to this `FILE` as JSON")
	flags.IntVar(&f.ringBytes, "ring-size", defaultRingBytes, "size of the ring buffer in bytes, a power of two")
	flags.StringVar(&f.record, "record", "", "also write the kernel's events to this `FILE`, for 'otel-kprobe replay'")
}

// check finds the user's mistakes.
func (f *runFlags) check() error {
	page := os.Getpagesize()
	switch {
	case f.ringBytes < page || f.ringBytes&(f.ringBytes-1) != 0 || f.ringBytes > maxRingBytes:
		return fmt.Errorf("read --ring-size: %d is not a power of two from %d to %d", f.ringBytes, page, maxRingBytes)
	case f.duration < 0:
		return fmt.Errorf("read --duration: %v is negative", f.duration)
	}
	return nil
}
