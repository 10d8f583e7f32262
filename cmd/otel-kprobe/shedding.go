package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
	"github.com/otel-kprobe/otel-kprobe/internal/probe"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// shedder is what shedding needs of *bpf.Objects.
type shedder interface {
	Counters() (bpf.Counters, error)
	Shed(functions []uint64) error
	ShedFrames() (map[uint64]uint64, error)
	Restore() (map[uint64]uint64, error)
}

// shedding keeps the events of a packetsRun within --max-events.
type shedding struct {
	budget   *guard.Budget
	limit    uint64 // events a second
	kernel   shedder
	function func(addr uint64) spans.Function
	logger   *slog.Logger
	before   uint64 // frames not recorded, of functions that have been restored since
}

// newShedding begins to count. function names what a frame's Func is.
func newShedding(limit uint64, kernel shedder, function func(addr uint64) spans.Function, nowMonoNs uint64, logger *slog.Logger) *shedding {
	s := &shedding{limit: limit, kernel: kernel, function: function, logger: logger}
	s.budget = guard.NewBudget(guard.BudgetOptions{
		PerSecond: limit,
		Room:      bpf.MaxShedFunctions,
		// The kernel side records them anyway.
		Kept: func(addr uint64) bool { return probe.HasKin(function(addr).Name) },
	}, nowMonoNs)
	return s
}

// look sheds and restores when a window is over.
func (s *shedding) look(nowMonoNs uint64) error {
	if s == nil || !s.budget.Due(nowMonoNs) {
		return nil
	}
	counters, err := s.kernel.Counters()
	if err != nil {
		return err
	}
	frames, err := s.frames()
	if err != nil {
		return err
	}
	d := s.budget.Decide(nowMonoNs, guard.Outside{Lost: counters.Lost(), Shed: frames})
	rates := []any{"events_per_second", uint64(d.PerSecond), "permitted", s.limit}
	switch {
	case d.Restore:
		return s.restore(rates)
	case len(d.Shed) > 0:
		return s.shed(d.Shed, rates)
	case d.Short:
		s.logger.Warn("more events come than are permitted, and no function is left that could be shed: narrow the filter, or sample the packets", rates...)
	}
	return nil
}

func (s *shedding) shed(functions []guard.Function, rates []any) error {
	addresses := make([]uint64, len(functions))
	names := make([]string, len(functions))
	for i, f := range functions {
		addresses[i] = f.Func
		name := s.function(f.Func).Name
		if name == "" {
			name = fmt.Sprintf("%#x", f.Func)
		}
		names[i] = fmt.Sprintf("%s %.0f/s", name, f.PerSecond)
	}
	if err := s.kernel.Shed(addresses); err != nil {
		return err
	}
	s.logger.Warn("more events come than are permitted: the functions that give most are shed, and traces lack them until it has been quiet for a minute",
		append(rates, "functions", strings.Join(names, ", "))...)
	return nil
}

func (s *shedding) restore(rates []any) error {
	last, err := s.kernel.Restore()
	if err != nil {
		return err
	}
	lastFrames := sum(last)
	s.before += lastFrames
	s.logger.Info("it has been quiet for a minute: the functions that were shed are recorded again",
		append(rates, "functions", len(last), "frames_not_recorded", lastFrames)...)
	return nil
}

// frames is how many were not recorded, since the start.
func (s *shedding) frames() (uint64, error) {
	if s.budget.Functions() == 0 {
		return s.before, nil
	}
	frames, err := s.kernel.ShedFrames()
	return s.before + sum(frames), err
}

func sum(frames map[uint64]uint64) (n uint64) {
	for _, one := range frames {
		n += one
	}
	return n
}

// summarize adds what is shed, and what was.
func (s *shedding) summarize(to *export.Summary) (err error) {
	if s == nil {
		return nil
	}
	to.FunctionsShed = uint64(s.budget.Functions())
	to.FramesShed, err = s.frames()
	return err
}
