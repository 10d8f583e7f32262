package guard

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

const (
	busy, middling, rare, kept = 0xffffffff81000000, 0xffffffff81000100, 0xffffffff81000200, 0xffffffff81000300

	start = uint64(5 * time.Second)
)

// window is what comes within one, and what is decided at its end.
type window struct {
	name    string
	frames  map[uint64]int // by function, none of them the first of its skb
	first   int            // first frames of skbs, of busy
	others  int            // events that are no frame
	outside Outside        // sums
	want    Decision
}

func (w *window) count(b *Budget) {
	for function, n := range w.frames {
		for range n {
			b.Count(&event.Event{Kind: event.KindFrame, Frame: event.Frame{Func: function, Ordinal: 2}})
		}
	}
	for range w.first {
		b.Count(&event.Event{Kind: event.KindFrame, Frame: event.Frame{Func: busy, Ordinal: 1}})
	}
	for range w.others {
		b.Count(&event.Event{Kind: event.KindFacts, Frame: event.Frame{Func: busy, Ordinal: 2}})
	}
}

// decide lets windows pass one after the other.
func decide(t *testing.T, b *Budget, windows []window) {
	t.Helper()
	now := start
	for _, w := range windows {
		w.count(b)
		if b.Due(now + uint64(BudgetWindow) - 1) {
			t.Errorf("%s: it is over before its end", w.name)
		}
		now += uint64(BudgetWindow)
		if !b.Due(now) {
			t.Errorf("%s: it is not over at its end", w.name)
		}
		if diff := cmp.Diff(w.want, b.Decide(now, w.outside)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", w.name, diff)
		}
	}
}

func TestBudget(t *testing.T) {
	program := event.ProgramFunc(event.HookXDP, 7)
	for _, c := range []struct {
		name    string
		room    int
		windows []window
	}{
		{"few events shed nothing", 9, []window{
			{name: "as many as are permitted", frames: map[uint64]int{busy: 200, rare: 100}, want: Decision{PerSecond: 100}},
		}},
		{"the busiest go first, and no more than must", 9, []window{
			{
				name: "too many", frames: map[uint64]int{busy: 300, middling: 120, rare: 60}, others: 120,
				want: Decision{PerSecond: 200, Shed: []Function{{busy, 100}}},
			},
			{name: "few enough", frames: map[uint64]int{middling: 120, rare: 60}, others: 120, want: Decision{PerSecond: 100}},
			{
				name: "too many of others", frames: map[uint64]int{middling: 240, rare: 60}, others: 120,
				want: Decision{PerSecond: 140, Shed: []Function{{middling, 80}}},
			},
		}},
		{"what was on its way is not held against others", 9, []window{
			{name: "too many", frames: map[uint64]int{busy: 600, rare: 150}, want: Decision{PerSecond: 250, Shed: []Function{{busy, 200}}}},
			{name: "the ring is read", frames: map[uint64]int{busy: 180, rare: 150}, want: Decision{PerSecond: 110}},
		}},
		{"kin and programs are kept", 9, []window{
			{
				name: "too many", frames: map[uint64]int{kept: 600, program: 500, rare: 100},
				want: Decision{PerSecond: 400, Shed: []Function{{rare, 100.0 / 3}}},
			},
			{name: "nothing is left to shed", frames: map[uint64]int{kept: 600}, want: Decision{PerSecond: 200, Short: true}},
			{name: "that is said once", frames: map[uint64]int{kept: 600}, want: Decision{PerSecond: 200}},
			{name: "until it is over", frames: map[uint64]int{kept: 240}, want: Decision{PerSecond: 80}},
			{name: "and comes again", frames: map[uint64]int{kept: 600}, want: Decision{PerSecond: 200, Short: true}},
		}},
		{"first frames are not saved", 9, []window{
			{
				name: "most are first", first: 600, frames: map[uint64]int{busy: 30, rare: 60},
				want: Decision{PerSecond: 230, Shed: []Function{{rare, 20}, {busy, 10}}},
			},
		}},
		{"what was lost counts", 9, []window{
			{
				name: "half is lost", frames: map[uint64]int{busy: 150, rare: 150}, outside: Outside{Lost: 300},
				want: Decision{PerSecond: 200, Shed: []Function{{busy, 50}}},
			},
			{name: "what was lost before does not", frames: map[uint64]int{rare: 300}, outside: Outside{Lost: 300}, want: Decision{PerSecond: 100}},
		}},
		{"room is limited", 1, []window{
			{name: "too many", frames: map[uint64]int{busy: 600, rare: 400}, want: Decision{PerSecond: 1000.0 / 3, Shed: []Function{{busy, 200}}}},
			{name: "no room", frames: map[uint64]int{rare: 400}, want: Decision{PerSecond: 400.0 / 3, Short: true}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBudget(BudgetOptions{
				PerSecond: 100, Room: c.room, Kept: func(f uint64) bool { return f == kept },
			}, start)
			decide(t, b, c.windows)
		})
	}
}

// Functions are restored after a minute in which they would have fitted, and not as long
// as a flood goes on that only their shedding hides.
func TestBudgetRestores(t *testing.T) {
	const minute = 20 // windows
	b := NewBudget(BudgetOptions{PerSecond: 100, Room: 9, Kept: func(uint64) bool { return false }}, start)
	windows := []window{{name: "flood", frames: map[uint64]int{busy: 600}, want: Decision{PerSecond: 200, Shed: []Function{{busy, 200}}}}}
	shed := uint64(0)
	quiet := func(n int, name string, more uint64, want Decision) {
		for range n {
			shed += more
			windows = append(windows, window{name: name, others: 30, outside: Outside{Shed: shed}, want: want})
		}
	}
	nothing := Decision{PerSecond: 10}
	quiet(2*minute, "the flood goes on", 600, nothing)
	quiet(minute-1, "nearly a minute", 60, nothing)
	quiet(1, "half of the budget and one more", 121, nothing)
	quiet(minute-1, "from the beginning", 120, nothing)
	quiet(1, "a minute", 120, Decision{PerSecond: 10, Restore: true})
	quiet(minute, "there is nothing to restore", 0, nothing)
	decide(t, b, windows)
	if n := b.Functions(); n != 0 {
		t.Errorf("%d functions are shed", n)
	}
}

// Each event is counted where the records are read.
func BenchmarkBudgetCount(b *testing.B) {
	budget := NewBudget(BudgetOptions{PerSecond: 1 << 40, Room: 1, Kept: func(uint64) bool { return false }}, 0)
	ev := event.Event{Kind: event.KindFrame, Frame: event.Frame{Ordinal: 2}}
	n := uint64(0)
	for b.Loop() {
		n++
		ev.Frame.Func = busy + n%1500*16
		budget.Count(&ev)
	}
}
