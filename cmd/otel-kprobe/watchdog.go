package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
)

// watchdog ends a session that costs more than --max-cpu and --max-loss allow.
type watchdog struct {
	guard *guard.Watchdog
	cost  func() (guard.Cost, error)
	// says turns the flags in a sentence into what the user wrote.
	says func(string) string
}

// watch begins to watch, if there is a limit. cost is asked for each window.
func (s *session) watch(cost func() (guard.Cost, error)) error {
	if !s.run.limits.Any() {
		return nil
	}
	begin, err := cost()
	if err != nil {
		return fmt.Errorf("measure what tracing costs: %w", err)
	}
	s.watchdog = &watchdog{
		guard: guard.NewWatchdog(s.run.limits, s.clock.MonoNs(), begin),
		cost:  cost,
		says:  func(text string) string { return text },
	}
	if s.shared != nil {
		s.watchdog.says = inFile
	}
	return nil
}

// look measures when a window is over. Its error ends the session in the usual order:
// detach, read what is in the ring, export.
func (w *watchdog) look(nowMonoNs uint64) error {
	if w == nil || !w.guard.Due(nowMonoNs) {
		return nil
	}
	cost, err := w.cost()
	if err != nil {
		return fmt.Errorf("measure what tracing costs: %w", err)
	}
	err = w.guard.Look(nowMonoNs, cost)
	var exceeded *guard.ExceededError
	if !errors.As(err, &exceeded) {
		return err
	}
	advice := "narrow what is traced, take a share of it with --sample, or raise --max-cpu"
	if !exceeded.CPU {
		advice = "narrow what is traced, take a share of it with --sample, raise --ring-size if it comes in bursts, or raise --max-loss"
	}
	return &statusError{exitTooCostly, errors.New(w.says(fmt.Sprintf(
		"%v, in the last %v and the %v before: all probes were detached, and what had been gathered was exported; %s",
		exceeded, guard.WatchdogWindow, guard.WatchdogWindow, advice,
	)))}
}

// summarize adds the windows in which limits were passed.
func (w *watchdog) summarize(s *export.Summary) {
	if w != nil {
		s.CPUExceeded, s.LossExceeded = w.guard.Windows()
	}
}

// cpuTime is what this process has used of the CPUs, and what its programs in the kernel
// have, as far as that takes the time (bpf.Objects.RunTime). It is not asked to: that
// costs two looks at a clock for each run of any program of the machine
// (https://docs.kernel.org/admin-guide/sysctl/kernel.html#bpf-stats-enabled).
func cpuTime(inKernel func() (time.Duration, error)) (ns uint64, err error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("ask for the CPU time of this process: %w", err)
	}
	programs, err := inKernel()
	if err != nil {
		return 0, err
	}
	return uint64(usage.Utime.Nano() + usage.Stime.Nano() + programs.Nanoseconds()), nil
}
