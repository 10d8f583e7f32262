package guard

import (
	"fmt"
	"time"
)

const (
	// WatchdogWindow is what a Watchdog averages over.
	WatchdogWindow = 10 * time.Second
	// patience is in how many windows in a row a limit must be passed: a burst ends
	// nothing.
	patience = 2
	// fewestEvents is how many events a window must have for its losses to count: of a
	// handful, one that is lost is a large part.
	fewestEvents = 1000
)

// Limits are what tracing may cost, in percent; 0: whatever it does.
type Limits struct {
	CPU  float64 // of the time of one CPU
	Loss float64 // of the events, those that were lost
}

// Any says whether there is a limit.
func (l Limits) Any() bool { return l.CPU > 0 || l.Loss > 0 }

// Cost is what tracing has cost since it began.
type Cost struct {
	CPUNs      uint64
	Seen, Lost uint64 // events
}

// Watchdog says when tracing has to end.
type Watchdog struct {
	limits     Limits
	fromMonoNs uint64 // at which the window began
	cost       Cost   // then
	cpu, loss  watched
}

// watched is one limit.
type watched struct {
	inRow   int
	windows uint64
}

// NewWatchdog makes a Watchdog whose first window begins at a CLOCK_MONOTONIC time with
// what tracing has cost by then.
func NewWatchdog(limits Limits, nowMonoNs uint64, cost Cost) *Watchdog {
	return &Watchdog{limits: limits, fromMonoNs: nowMonoNs, cost: cost}
}

// Due says whether the window is over, so that Look must be asked.
func (w *Watchdog) Due(nowMonoNs uint64) bool {
	return nowMonoNs >= w.fromMonoNs+uint64(WatchdogWindow)
}

// Look ends the window. An error is an *ExceededError: tracing has to end.
func (w *Watchdog) Look(nowMonoNs uint64, cost Cost) error {
	elapsed := float64(nowMonoNs - w.fromMonoNs)
	seen, lost := cost.Seen-w.cost.Seen, cost.Lost-w.cost.Lost
	cpu := percent(float64(cost.CPUNs-w.cost.CPUNs), elapsed)
	loss := 0.0
	if seen+lost >= fewestEvents {
		loss = percent(float64(lost), float64(seen+lost))
	}
	w.fromMonoNs, w.cost = nowMonoNs, cost
	overCPU, overLoss := w.cpu.look(cpu, w.limits.CPU), w.loss.look(loss, w.limits.Loss)
	switch {
	case overCPU:
		return &ExceededError{CPU: true, Percent: cpu, Limit: w.limits.CPU}
	case overLoss:
		return &ExceededError{Percent: loss, Limit: w.limits.Loss}
	}
	return nil
}

func percent(part, whole float64) float64 { return 100 * part / whole }

// look says whether the limit was passed too often.
func (w *watched) look(value, limit float64) bool {
	if limit == 0 || value <= limit {
		w.inRow = 0
		return false
	}
	w.windows++
	w.inRow++
	return w.inRow >= patience
}

// Windows is in how many windows each limit was passed.
func (w *Watchdog) Windows() (cpu, loss uint64) { return w.cpu.windows, w.loss.windows }

// ExceededError says which limit was passed in two windows in a row.
type ExceededError struct {
	CPU            bool // else the losses
	Percent, Limit float64
}

// Error implements error.
func (e *ExceededError) Error() string {
	if e.CPU {
		return fmt.Sprintf("tracing took %.3g%% of a CPU, more than the %.3g%% of --max-cpu", e.Percent, e.Limit)
	}
	return fmt.Sprintf("%.3g%% of the events were lost, more than the %.3g%% of --max-loss", e.Percent, e.Limit)
}
