package journey

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestStartMonoNs(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []event.Event
		want  uint64
	}{
		{"facts first", []event.Event{start(1, 10), frame(1, 11, 20), end(1, 30, 1)}, 10},
		{"facts lost", []event.Event{frame(1, 15, 20), frame(1, 12, 25), end(1, 30, 2)}, 12},
		{"a frame that returned later", []event.Event{frame(1, 8, 9), start(1, 10), end(1, 30, 1)}, 8},
		{"nothing but an end", []event.Event{end(1, 30, 0)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []uint64
			tracker := NewTracker(Options{}, func(j *Journey) { got = append(got, j.StartMonoNs()) })
			for _, step := range c.steps {
				step := of(1, step)
				tracker.Add(&step)
			}
			tracker.CloseAll(1_000)
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("starts %v, want one of %d", got, c.want)
			}
		})
	}
}

// Before a time that the ring has not been read to, nothing is settled; after it,
// when nothing of before is open, in whichever list.
func TestSettledBefore(t *testing.T) {
	tracker := NewTracker(Options{LingerNs: 100}, func(*Journey) {})
	add := func(id uint64, ev event.Event) {
		ev = of(id, ev)
		tracker.Add(&ev)
	}
	expect := func(when string, monoNs uint64, want bool) {
		t.Helper()
		if got := tracker.SettledBefore(monoNs); got != want {
			t.Errorf("%s: settled before %d is %v", when, monoNs, got)
		}
	}
	expect("at first", 1, false)
	add(1, start(1, 10))
	expect("one runs", 10, true) // it began at 10, not before
	expect("one runs", 11, false)
	add(2, start(2, 50))
	add(1, end(1, 60, 1)) // it waits for a frame
	expect("one waits", 50, false)
	add(1, frame(1, 11, 70))
	expect("one is complete", 50, true)
	expect("another runs", 60, false)
	expect("beyond what was read", 1_000, false)
	add(2, end(2, 80, 0))
	tracker.Advance(1_000)
	expect("at the end", 1_000, true)
}
