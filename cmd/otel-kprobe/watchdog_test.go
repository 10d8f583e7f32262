package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// A limit that is passed twice ends the session with a status and a sentence of its
// own; in a service the sentence has keys in the place of flags.
func TestWatchdogEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits guard.Limits
		shared *shared
		each   guard.Cost // a window
		want   string
		cpu    uint64 // windows
		loss   uint64
	}{
		{"within", guard.Limits{CPU: 20, Loss: 50}, nil, guard.Cost{CPUNs: 2e9, Seen: 1000, Lost: 1000}, "", 0, 0},
		{
			"CPU",
			guard.Limits{CPU: 20},
			nil,
			guard.Cost{CPUNs: 5e9},
			"tracing took 50% of a CPU, more than the 20% of --max-cpu, in the last 10s and the 10s before: " +
				"all probes were detached, and what had been gathered was exported; narrow what is traced, take a share of it with --sample, or raise --max-cpu",
			2, 0,
		},
		{
			"losses in a service",
			guard.Limits{Loss: 10},
			&shared{},
			guard.Cost{Seen: 6000, Lost: 2000},
			"25% of the events were lost, more than the 10% of max_loss, in the last 10s and the 10s before: " +
				"all probes were detached, and what had been gathered was exported; narrow what is traced, take a share of it with sample, raise ring_size if it comes in bursts, or raise max_loss",
			0, 2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock, err := kernel.NewClock()
			if err != nil {
				t.Fatal(err)
			}
			cost := guard.Cost{CPUNs: 1, Seen: 2, Lost: 3}
			s := session{run: runFlags{limits: c.limits}, clock: clock, shared: c.shared}
			if err := s.watch(func() (guard.Cost, error) { return cost, nil }); err != nil {
				t.Fatal(err)
			}
			now := clock.MonoNs()
			for window := range 2 {
				if err := s.watchdog.look(now); err != nil {
					t.Errorf("before the end of window %d: %v", window, err)
				}
				now += uint64(guard.WatchdogWindow)
				cost = guard.Cost{CPUNs: cost.CPUNs + c.each.CPUNs, Seen: cost.Seen + c.each.Seen, Lost: cost.Lost + c.each.Lost}
				if window > 0 {
					break
				}
				if err := s.watchdog.look(now); err != nil {
					t.Errorf("after one window: %v", err)
				}
			}
			err = s.watchdog.look(now)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || err.Error() != c.want || statusOf(err) != exitTooCostly):
				t.Errorf("status %d: %v\nwant %s", statusOf(err), err, c.want)
			}
			var summary export.Summary
			s.watchdog.summarize(&summary)
			if diff := cmp.Diff(export.Summary{CPUExceeded: c.cpu, LossExceeded: c.loss}, summary); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Without a limit nothing is measured.
func TestNoWatchdog(t *testing.T) {
	var s session
	err := s.watch(func() (guard.Cost, error) { return guard.Cost{}, errors.New("asked") })
	if err != nil || s.watchdog != nil {
		t.Errorf("there is a watchdog %v: %v", s.watchdog, err)
	}
	if err := s.watchdog.look(uint64(time.Hour)); err != nil {
		t.Error(err)
	}
	s.watchdog.summarize(&export.Summary{})
}

// The time of this process grows while it works, and that of its programs is added.
func TestCPUTime(t *testing.T) {
	none := func() (time.Duration, error) { return 0, nil }
	before, err := cpuTime(none)
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for after < before+uint64(5*time.Millisecond) { // it works
		if after, err = cpuTime(none); err != nil {
			t.Fatal(err)
		}
	}
	hour, err := cpuTime(func() (time.Duration, error) { return time.Hour, nil })
	if err != nil || hour < after+uint64(time.Hour) {
		t.Errorf("%d ns with an hour in the kernel, %d before: %v", hour, after, err)
	}
	if _, err := cpuTime(func() (time.Duration, error) { return 0, errDevicesGone }); !errors.Is(err, errDevicesGone) {
		t.Errorf("error %v", err)
	}
}
