package guard

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// spent is what one window costs, and what is said at its end.
type spent struct {
	cpu        float64 // percent
	seen, lost uint64
	want       *ExceededError
}

func TestWatchdog(t *testing.T) {
	for _, c := range []struct {
		name      string
		limits    Limits
		windows   []spent
		cpu, loss uint64 // windows in which the limit was passed
	}{
		{
			name: "within the limits", limits: Limits{CPU: 20, Loss: 1},
			windows: []spent{{cpu: 20, seen: 9900, lost: 100}, {cpu: 20, seen: 9900, lost: 100}},
		},
		{name: "no limits", windows: []spent{{cpu: 200, seen: 1, lost: 9999}, {cpu: 200, seen: 1, lost: 9999}}},
		{
			name: "CPU twice in a row", limits: Limits{CPU: 20, Loss: 1}, cpu: 2,
			windows: []spent{{cpu: 30}, {cpu: 40, want: &ExceededError{CPU: true, Percent: 40, Limit: 20}}},
		},
		{
			name: "CPU with a pause", limits: Limits{CPU: 20}, cpu: 3,
			windows: []spent{{cpu: 30}, {cpu: 20}, {cpu: 30}, {cpu: 30, want: &ExceededError{CPU: true, Percent: 30, Limit: 20}}},
		},
		{
			name: "losses twice in a row", limits: Limits{CPU: 20, Loss: 1}, loss: 2,
			windows: []spent{{seen: 8000, lost: 2000}, {seen: 5000, lost: 5000, want: &ExceededError{Percent: 50, Limit: 1}}},
		},
		{
			name: "one and then the other", limits: Limits{CPU: 20, Loss: 1}, cpu: 1, loss: 1,
			windows: []spent{{cpu: 30}, {seen: 8000, lost: 2000}},
		},
		{
			name: "a handful of events", limits: Limits{Loss: 1}, loss: 1,
			windows: []spent{{seen: 900, lost: 99}, {lost: 999}, {seen: 900, lost: 100}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cost := Cost{CPUNs: 7e9, Seen: 5, Lost: 5000}
			now := uint64(3e9)
			w := NewWatchdog(c.limits, now, cost)
			for i, s := range c.windows {
				if w.Due(now + uint64(WatchdogWindow) - 1) {
					t.Errorf("window %d is over before its end", i)
				}
				now += uint64(WatchdogWindow)
				if !w.Due(now) {
					t.Errorf("window %d is not over at its end", i)
				}
				cost.CPUNs += uint64(s.cpu / 100 * float64(WatchdogWindow))
				cost.Seen += s.seen
				cost.Lost += s.lost
				var got *ExceededError
				if err := w.Look(now, cost); err != nil && !errors.As(err, &got) {
					t.Fatal(err)
				}
				if diff := cmp.Diff(s.want, got); diff != "" {
					t.Errorf("window %d: -want +got:\n%s", i, diff)
				}
			}
			if cpu, loss := w.Windows(); cpu != c.cpu || loss != c.loss {
				t.Errorf("%d windows of CPU and %d of losses were counted, want %d and %d", cpu, loss, c.cpu, c.loss)
			}
		})
	}
}

func TestExceededError(t *testing.T) {
	for _, c := range []struct {
		err  ExceededError
		want string
	}{
		{ExceededError{CPU: true, Percent: 37.26, Limit: 20}, "tracing took 37.3% of a CPU, more than the 20% of --max-cpu"},
		{ExceededError{Percent: 2, Limit: 0.5}, "2% of the events were lost, more than the 0.5% of --max-loss"},
	} {
		if diff := cmp.Diff(c.want, c.err.Error()); diff != "" {
			t.Error(diff)
		}
	}
}
