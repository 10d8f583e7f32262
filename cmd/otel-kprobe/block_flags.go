package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// blockFlags are the flags of block as they were given.
type blockFlags struct {
	output outputFlags
	run    runFlags

	devices    []string
	operations []string
	pid        int
	cgroup     string
	minLatency time.Duration
	sample     string

	histogramOnly bool
	by            string
	interval      time.Duration
}

func (f *blockFlags) register(flags *pflag.FlagSet) {
	f.output.register(flags)
	flags.StringSliceVar(&f.devices, "device", nil, "follow only requests to this device or partition, by `NAME` or MAJ:MIN; several by commas or repeated")
	flags.StringSliceVar(&f.operations, "op", nil, "follow only these `OPERATIONS`: read, write, flush, discard … as the kernel names them")
	flags.IntVar(&f.pid, "pid", 0, "follow only what this process (`PID`) submits")
	flags.StringVar(&f.cgroup, "cgroup", "", "follow only what this cgroup (a `PATH` below /sys/fs/cgroup) and those below it submit")
	flags.DurationVar(&f.minLatency, "min-latency", 0, "export only requests that took at least this long; the histogram counts all")
	registerSample(flags, &f.sample, "requests, each with those that it causes; the histogram counts all")
	flags.BoolVar(&f.histogramOnly, "histogram-only", false, "count latencies in the kernel and export no requests: cheapest")
	flags.StringVar(&f.by, "by", "", "a histogram for each device, op, cgroup or process")
	flags.DurationVar(&f.interval, "interval", 0, "show the histogram each time this long has passed (default: at the end; with --histogram-only on a terminal each second)")
	f.run.register(flags)
}

// blockSettings are the flags of block, checked.
type blockSettings struct {
	output outputSettings
	run    runFlags

	deviceNames []string
	devices     []uint32
	operations  []string // checked against the kernel's when that is known
	pid         uint32
	cgroupID    uint64
	cgroupLevel int
	minLatency  time.Duration
	sample      uint64 // see parseSample

	histogramOnly bool
	by            blockio.By
	interval      time.Duration
}

// settings checks the flags. Every error is the user's to mend.
func (f *blockFlags) settings(getenv func(string) string) (blockSettings, error) {
	s := blockSettings{
		run:           f.run,
		deviceNames:   f.devices,
		operations:    f.operations,
		minLatency:    f.minLatency,
		histogramOnly: f.histogramOnly,
		interval:      f.interval,
	}
	for _, check := range []func(*blockSettings) error{
		f.checkHistogram, f.checkDevices, f.checkSubmitter, f.checkSample,
	} {
		if err := check(&s); err != nil {
			return s, err
		}
	}
	if err := f.run.check(); err != nil {
		return s, err
	}
	var err error
	if s.output, err = f.output.settings(getenv); err != nil {
		return s, err
	}
	if err := s.output.only.checkOfBlock(); err != nil {
		return s, err
	}
	err = f.checkOnlyHistogram(&s)
	return s, err
}

func (f *blockFlags) checkHistogram(s *blockSettings) (err error) {
	switch {
	case f.interval < 0:
		return fmt.Errorf("read --interval: %v is negative", f.interval)
	case f.interval > 0 && f.interval < 100*time.Millisecond:
		return fmt.Errorf("read --interval: %v is shorter than 100ms", f.interval)
	case f.minLatency < 0:
		return fmt.Errorf("read --min-latency: %v is negative", f.minLatency)
	case f.by == "":
		return nil
	}
	if s.by, err = blockio.ParseBy(f.by); err != nil {
		return fmt.Errorf("read --by: %q is none of device, op, cgroup, process", f.by)
	}
	return nil
}

func (f *blockFlags) checkDevices(s *blockSettings) error {
	if len(f.devices) > bpf.MaxBlockDevices {
		return fmt.Errorf("read --device: %d devices are named, at most %d can be", len(f.devices), bpf.MaxBlockDevices)
	}
	for _, name := range f.devices {
		dev, _, err := kernel.ResolveDevice(name)
		if err != nil {
			return fmt.Errorf("read --device: %w", err)
		}
		s.devices = append(s.devices, dev)
	}
	return nil
}

func (f *blockFlags) checkSubmitter(s *blockSettings) (err error) {
	switch {
	case f.pid < 0 || int64(f.pid) > math.MaxInt32:
		return fmt.Errorf("read --pid: %d is no process id", f.pid)
	case f.pid > 0 && !kernel.ProcessExists(f.pid):
		return fmt.Errorf("read --pid: there is no process %d", f.pid)
	}
	s.pid = uint32(f.pid)
	if f.cgroup != "" {
		if s.cgroupID, s.cgroupLevel, err = kernel.ResolveCgroup(f.cgroup); err != nil {
			return fmt.Errorf("read --cgroup: %w", err)
		}
	}
	return nil
}

func (f *blockFlags) checkSample(s *blockSettings) (err error) {
	s.sample, err = parseSample(f.sample)
	return err
}

// checkOnlyHistogram refuses what would do nothing with --histogram-only.
func (f *blockFlags) checkOnlyHistogram(s *blockSettings) error {
	if !f.histogramOnly {
		return nil
	}
	switch {
	case s.output.file:
		return errors.New("read --histogram-only: it exports no requests, so there is nothing to write to a file; leave --output and --exporter file out")
	case f.run.record != "":
		return errors.New("read --histogram-only: it reports no requests, so there is nothing to record; leave --record out")
	case f.run.limit > 0:
		return errors.New("read --histogram-only: it makes no traces, so --limit-traces would never be reached; use --duration")
	case f.minLatency > 0:
		return errors.New("read --histogram-only: it exports no requests, so --min-latency would choose none; leave it out")
	case s.sample > 0:
		return errors.New("read --histogram-only: it counts all requests, so --sample would choose none; leave it out")
	case s.output.only.any():
		return errors.New("read --histogram-only: it exports no requests, so --only would choose none; leave it out")
	case f.output.set.Changed("correlate"):
		return errors.New("read --histogram-only: it exports no requests, so --correlate would do nothing; leave it out")
	case f.output.set.Changed("format"):
		return errors.New("read --histogram-only: it shows no requests, so --format would do nothing; leave it out")
	}
	return nil
}

// operationBits looks the operations up that --op names.
func (s *blockSettings) operationBits(names kernel.BlockNames) (bits uint64, err error) {
	for _, name := range s.operations {
		op, ok := names.OperationNumber(strings.ToLower(name))
		if !ok || op > 63 {
			return 0, usageErrorf("read --op: %q is none of this kernel's operations: %s", name, strings.Join(names.Operations(), ", "))
		}
		bits |= 1 << op
	}
	return bits, nil
}
