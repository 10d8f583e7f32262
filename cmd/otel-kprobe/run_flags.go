package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/guard"
)

const (
	defaultRingBytes = 16 << 20
	maxRingBytes     = 1 << 30 // and the largest that the kernel takes is not far above
	maxPercentCPU    = 100_000 // a thousand CPUs
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
	limits      guard.Limits
}

func (f *runFlags) register(flags *pflag.FlagSet) {
	flags.DurationVar(&f.duration, "duration", 0, "stop after this long (default: at SIGINT or SIGTERM)")
	flags.Uint64Var(&f.limit, "limit-traces", 0, "stop after this many traces (default: no limit)")
	flags.StringVar(&f.readyFile, "ready-file", "", "create this `FILE` once all probes are attached")
	flags.StringVar(&f.summaryFile, "summary-file", "", "write the closing summary to this `FILE` as JSON")
	flags.IntVar(&f.ringBytes, "ring-size", defaultRingBytes, "size of the ring buffer in bytes, a power of two")
	flags.Float64Var(&f.limits.CPU, "max-cpu", 0, "detach and end when this process takes more than this `PERCENT` of one CPU for 20 s (default: no limit)")
	flags.Float64Var(&f.limits.Loss, "max-loss", 0, "detach and end when more than this `PERCENT` of the events are lost for 20 s (default: no limit)")
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
	case !(f.limits.CPU >= 0 && f.limits.CPU <= maxPercentCPU): // NaN, too
		return fmt.Errorf("read --max-cpu: %v is no percentage of a CPU, from 0 to %d", f.limits.CPU, maxPercentCPU)
	case !(f.limits.Loss >= 0 && f.limits.Loss <= 100):
		return fmt.Errorf("read --max-loss: %v is no percentage, from 0 to 100", f.limits.Loss)
	}
	return nil
}
