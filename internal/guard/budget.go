package guard

import (
	"cmp"
	"slices"
	"time"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

const (
	// BudgetWindow is what events are averaged over: a burst that is shorter costs
	// nobody a function.
	BudgetWindow = 3 * time.Second
	// quietWindows is how many windows in a row must be quiet before the functions
	// that were shed are restored: a minute.
	quietWindows = 20
	// quietShare is the part of the budget that a quiet window keeps to, with all that
	// the functions that are shed would have given. Below the whole of it, so that what
	// is restored is not shed again at once.
	quietShare = 0.5
)

// BudgetOptions say what a Budget permits.
type BudgetOptions struct {
	PerSecond uint64 // events; above 0
	Room      int    // functions that can be shed at a time
	// Kept says of functions, by their address in frames, that they must not be shed.
	Kept func(function uint64) bool
}

// Budget permits so many events a second, and chooses which functions to shed when more
// come: those with most frames.
type Budget struct {
	o                 BudgetOptions
	windowEndMonoNs   uint64
	windowStartMonoNs uint64
	events            uint64  // in this window
	frames            tally   // among them those that shedding would save
	outside           Outside // as it was when the window began
	shed              map[uint64]bool
	quiet             int  // windows in a row
	short             bool // it has been said that there is nothing left to shed
}

// Outside is what comes to nobody's ears through events, summed since the start.
type Outside struct {
	Lost uint64 // events that found no room in the ring
	Shed uint64 // frames of functions that are shed
}

// Decision is what is to be done at the end of a window. Mostly nothing.
type Decision struct {
	PerSecond float64    // events in the window, those that were lost too
	Shed      []Function // to be shed in addition, busiest first
	Restore   bool       // all that are shed are to be restored
	// Short says that too many events come though all is shed that can be. It is said
	// once, until they are few enough again.
	Short bool
}

// Function is a function with what it gives.
type Function struct {
	Func      uint64 // as in event.Frame
	PerSecond float64
}

// NewBudget makes a Budget whose first window begins at a CLOCK_MONOTONIC time.
func NewBudget(o BudgetOptions, nowMonoNs uint64) *Budget {
	return &Budget{
		o: o, windowStartMonoNs: nowMonoNs, windowEndMonoNs: nowMonoNs + uint64(BudgetWindow),
		frames: newTally(tallyPlaces), shed: make(map[uint64]bool),
	}
}

// Count takes one event. Shedding saves no first frame of an skb: those are recorded of
// shed functions, too.
func (b *Budget) Count(ev *event.Event) {
	b.events++
	if ev.Kind != event.KindFrame || ev.Frame.Ordinal == 1 {
		return
	}
	b.frames.add(ev.Frame.Func, 1)
}

// Due says whether the window is over, so that Decide must be asked. The time is that up
// to which events have been counted, which a reader that lags behind is not now.
func (b *Budget) Due(nowMonoNs uint64) bool { return nowMonoNs >= b.windowEndMonoNs }

// Decide ends the window and says what to do. That is taken as done.
func (b *Budget) Decide(nowMonoNs uint64, outside Outside) Decision {
	seconds := time.Duration(nowMonoNs - b.windowStartMonoNs).Seconds()
	events := b.events + outside.Lost - b.outside.Lost
	d := Decision{PerSecond: float64(events) / seconds}
	unshed := float64(outside.Shed-b.outside.Shed) / seconds
	switch limit := float64(b.o.PerSecond); {
	case d.PerSecond > limit:
		b.quiet = 0
		d.Shed, d.Short = b.choose(d.PerSecond, seconds)
	case len(b.shed) > 0 && d.PerSecond+unshed <= limit*quietShare:
		b.short = false
		if b.quiet++; b.quiet >= quietWindows {
			b.quiet, d.Restore = 0, true
			clear(b.shed)
		}
	default:
		b.quiet, b.short = 0, false
	}
	b.windowStartMonoNs, b.windowEndMonoNs = nowMonoNs, nowMonoNs+uint64(BudgetWindow)
	b.events, b.outside = 0, outside
	b.frames.reset()
	return d
}

// choose takes the functions with most frames until the events that are left are few
// enough.
func (b *Budget) choose(perSecond, seconds float64) (shed []Function, short bool) {
	// Of what was lost the functions are not known: as of what was not.
	share := perSecond / float64(max(b.events, 1))
	left := perSecond
	counted := slices.DeleteFunc(b.frames.counted(), func(p place) bool {
		if b.shed[p.function] { // they were on their way when it was
			left -= float64(p.frames) * share
		}
		return b.shed[p.function]
	})
	slices.SortFunc(counted, func(x, y place) int {
		return cmp.Or(cmp.Compare(y.frames, x.frames), cmp.Compare(x.function, y.function))
	})
	for _, p := range counted {
		if left <= float64(b.o.PerSecond) || len(b.shed) >= b.o.Room {
			break
		}
		if hook, _ := event.Program(p.function); hook != event.HookNone || b.o.Kept(p.function) {
			continue // a BPF program is no function that could be shed
		}
		left -= float64(p.frames) * share
		b.shed[p.function] = true
		shed = append(shed, Function{p.function, float64(p.frames) / seconds})
	}
	if len(shed) == 0 && left > float64(b.o.PerSecond) && !b.short {
		b.short, short = true, true
	}
	return shed, short
}

// Functions is how many functions are shed.
func (b *Budget) Functions() int { return len(b.shed) }
