package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// clockRounds brackets are measured for one sample; the tightest counts.
	clockRounds = 32
	// clockPeriod is the time between samples that nothing asked for.
	clockPeriod = time.Second
	// clockToleranceNs is by how much a sample may differ beyond its bracket
	// and still be no step. CLOCK_REALTIME and CLOCK_MONOTONIC are slewed
	// together, so their offset does not drift.
	clockToleranceNs = 1000
	// clockHistory offsets are kept; older events take the oldest.
	clockHistory = 4096
)

// ClockSource reads the two clocks. Both return nanoseconds.
type ClockSource interface {
	MonoNs() int64 // CLOCK_MONOTONIC as this process sees it
	RealNs() int64 // CLOCK_REALTIME
}

// ClockOffset is one piece of a Clock's history.
type ClockOffset struct {
	FromMonoNs uint64 // the kernel's CLOCK_MONOTONIC from which it holds
	OffsetNs   int64  // CLOCK_REALTIME − the kernel's CLOCK_MONOTONIC
}

// Clock relates the times of kernel events (CLOCK_MONOTONIC of the initial time
// namespace, as bpf_ktime_get_ns gives it) to CLOCK_REALTIME. It keeps a
// history, so that an event from before a clock step gets the offset of then.
type Clock struct {
	source   ClockSource
	shiftNs  int64 // this process's CLOCK_MONOTONIC − the kernel's
	history  atomic.Pointer[[]ClockOffset]
	mu       sync.Mutex // over sampling and onChange
	onChange func(fromMonoNs uint64, offsetNs int64)
}

// NewClock takes a first sample of the system's clocks.
func NewClock() (*Clock, error) {
	shift, err := timeNamespaceShift("/proc/self")
	if err != nil {
		return nil, err
	}
	return newClock(systemClock{}, shift), nil
}

func newClock(source ClockSource, shiftNs int64) *Clock {
	c := &Clock{source: source, shiftNs: shiftNs}
	c.Sample()
	return c
}

// ReplayClock is a Clock of recorded offsets, in the order of FromMonoNs. It
// neither samples nor runs.
func ReplayClock(history []ClockOffset) *Clock {
	c := &Clock{}
	c.history.Store(&history)
	return c
}

// OffsetNs returns CLOCK_REALTIME − CLOCK_MONOTONIC as it was at monoNs, in
// nanoseconds. It takes no lock; it may be called concurrently with all else.
func (c *Clock) OffsetNs(monoNs uint64) int64 {
	h := *c.history.Load()
	for i := len(h) - 1; i > 0; i-- {
		if monoNs >= h[i].FromMonoNs {
			return h[i].OffsetNs
		}
	}
	if len(h) == 0 {
		return 0
	}
	return h[0].OffsetNs
}

// MonoNs returns the kernel's CLOCK_MONOTONIC in nanoseconds, comparable to
// the times of events.
func (c *Clock) MonoNs() uint64 { return uint64(c.source.MonoNs() - c.shiftNs) }

// History returns all offsets known, oldest first.
func (c *Clock) History() []ClockOffset {
	return append([]ClockOffset(nil), *c.history.Load()...)
}

// OnChange calls f with the offset in force, and again with each new one, one
// call at a time. There is one such f; it must not call Sample or OnChange.
func (c *Clock) OnChange(f func(fromMonoNs uint64, offsetNs int64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onChange = f
	h := *c.history.Load()
	if f != nil && len(h) > 0 {
		last := h[len(h)-1]
		f(last.FromMonoNs, last.OffsetNs)
	}
}

// Sample measures the offset now and notes it if the clock was stepped.
func (c *Clock) Sample() {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, offset, bracket := c.measure()
	var old []ClockOffset
	if p := c.history.Load(); p != nil {
		old = *p
	}
	if n := len(old); n > 0 {
		moved := offset - old[n-1].OffsetNs
		if max(moved, -moved) <= bracket+clockToleranceNs {
			return
		}
	}
	if len(old) >= clockHistory {
		old = old[len(old)-clockHistory+1:]
	}
	next := append(append(make([]ClockOffset, 0, len(old)+1), old...), ClockOffset{at, offset})
	c.history.Store(&next)
	if c.onChange != nil {
		c.onChange(at, offset)
	}
}

// measure reads CLOCK_REALTIME between two readings of CLOCK_MONOTONIC, which
// are a bracket apart, and takes the middle of the tightest of many.
func (c *Clock) measure() (atMonoNs uint64, offsetNs, bracketNs int64) {
	bracketNs = -1
	for range clockRounds {
		before := c.source.MonoNs()
		wall := c.source.RealNs()
		after := c.source.MonoNs()
		if bracketNs < 0 || after-before < bracketNs {
			bracketNs = after - before
			mono := before + bracketNs/2 - c.shiftNs
			atMonoNs, offsetNs = uint64(mono), wall-mono
		}
	}
	return atMonoNs, offsetNs, bracketNs
}

// Run samples whenever the clock was set and once a second, until ctx is done;
// then it returns nil. An error means that steps are noticed within a second
// only up to then: events keep the last offset.
func (c *Clock) Run(ctx context.Context) error {
	timer, err := openStepTimer()
	if err != nil {
		return err
	}
	defer timer.Close()
	stepped := make(chan struct{}, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchSteps(timer, stepped)
	}()
	defer func() { timer.Close(); <-watched }()
	ticker := time.NewTicker(clockPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stepped:
		case <-ticker.C:
		}
		c.Sample()
	}
}

// openStepTimer returns a timer whose reading fails with ECANCELED when
// CLOCK_REALTIME was set or the machine resumed (timerfd_create(2)).
func openStepTimer() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch for clock steps: create timer: %w", err)
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 33}} // in the year 2242
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		return nil, fmt.Errorf("watch for clock steps: set timer: %w", errors.Join(err, unix.Close(fd)))
	}
	return os.NewFile(uintptr(fd), "timerfd"), nil
}

// watchSteps signals every step until the timer is closed or expires.
func watchSteps(timer *os.File, stepped chan<- struct{}) {
	buf := make([]byte, 8)
	for {
		_, err := timer.Read(buf)
		if !isCanceled(err) {
			return
		}
		select {
		case stepped <- struct{}{}:
		default:
		}
	}
}
