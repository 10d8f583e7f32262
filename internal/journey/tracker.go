package journey

import (
	"cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// The defaults of Options.
const (
	DefaultLingerNs    = 1_000_000_000
	DefaultIdleNs      = 60_000_000_000
	DefaultMaxJourneys = 16384
	DefaultMaxFrames   = 5000
	DefaultMaxHeld     = 1 << 18
)

// Options bounds what a Tracker waits for and holds. A zero member means its
// default.
type Options struct {
	// LingerNs is how long, since its last event, a journey whose skbs have all
	// ended waits for frames that are still running.
	LingerNs uint64 `json:"linger_ns"`
	// IdleNs is how long a journey may be silent before it is given up.
	IdleNs uint64 `json:"idle_ns"`
	// MaxJourneys is how many journeys may be open at once. As many emitted
	// ones are remembered, so that what comes late opens none anew.
	MaxJourneys int `json:"max_journeys"`
	// MaxFrames is how many frames one journey may have, and how many facts,
	// clones, ends and skbs. Backends get slow at about 20,000 spans a trace.
	MaxFrames int `json:"max_frames"`
	// MaxHeld is how many events all open journeys may have together: it, not
	// MaxJourneys times MaxFrames, bounds the memory.
	MaxHeld int `json:"max_held"`
}

func (o Options) withDefaults() Options {
	o.LingerNs = cmp.Or(o.LingerNs, DefaultLingerNs)
	o.IdleNs = cmp.Or(o.IdleNs, DefaultIdleNs)
	o.MaxJourneys = cmp.Or(max(o.MaxJourneys, 0), DefaultMaxJourneys)
	o.MaxFrames = cmp.Or(max(o.MaxFrames, 0), DefaultMaxFrames)
	o.MaxHeld = cmp.Or(max(o.MaxHeld, 0), DefaultMaxHeld)
	return o
}

// Stats counts what a Tracker saw. Every frame that was added is in an emitted
// journey, held by an open one, late or left out:
// Frames = EmittedFrames + HeldFrames + LateFrames + LeftOutFrames.
type Stats struct {
	Open          uint64 // journeys open now
	HeldFrames    uint64 // frames that the open ones have now
	Frames        uint64 // frames added
	Emitted       uint64 // journeys emitted, in whatever state
	EmittedFrames uint64
	Unfinished    uint64 // emitted journeys that were Unfinished
	Evicted       uint64 // journeys closed early, by MaxJourneys, MaxHeld or MaxFrames skbs
	LostFrames    uint64 // sum of Journey.LostFrames
	LostStarts    uint64 // emitted journeys whose start never came
	LostEnds      uint64 // skbs whose address came back without an end before
	LateEvents    uint64 // events of journeys that had been emitted, frames included
	LateFrames    uint64
	LeftOut       uint64 // events beyond MaxFrames, frames included
	LeftOutFrames uint64
}

// Tracker joins events into journeys and emits each one when it has ended. It
// has no clock of its own: the events and Advance move it, so that the same
// calls give the same journeys. It is not safe for concurrent use.
type Tracker struct {
	opts  Options
	emit  func(*Journey)
	stats Stats

	// journeys holds the open ones, and nil for those emitted lately.
	journeys map[uint64]*open
	recent   []uint64 // the latter's ids, a ring
	oldest   int      // where in recent the oldest is, when recent is full

	last     *open   // the journey of the last event
	running  list    // journeys with an skb that has not ended, by their last event
	waiting  list    // journeys that only wait for frames, by their last event
	held     int     // events that the open journeys have
	free     []*open // memory for journeys to come
	freeRoom int     // events for which those in free have memory

	sent sentSegments // what TCP sent lately, to know what it sends again

	nowMonoNs uint64
}

// NewTracker makes a Tracker that hands each journey to emit once. emit runs
// within the Tracker's methods, must not call them, and must copy what it keeps.
func NewTracker(opts Options, emit func(*Journey)) *Tracker {
	return &Tracker{
		opts:     opts.withDefaults(),
		emit:     emit,
		journeys: make(map[uint64]*open),
		sent:     newSentSegments(),
	}
}

// Stats gives the counters.
func (t *Tracker) Stats() Stats {
	s := t.stats
	s.Open = t.openCount()
	s.HeldFrames = s.Frames - s.EmittedFrames - s.LateFrames - s.LeftOutFrames
	return s
}

func (t *Tracker) openCount() uint64 { return uint64(len(t.journeys) - len(t.recent)) }

// Add takes one event, in the order of the ring buffer. It emits the event's
// journey when that is complete by it, and others that must make room. An event
// of unknown kind is ignored.
func (t *Tracker) Add(ev *event.Event) {
	if ev.Kind == event.KindLink { // of two journeys
		t.addLink(&ev.Link)
		return
	}
	id, monoNs, ok := ev.Journey()
	if !ok {
		return
	}
	frame := ev.Kind == event.KindFrame
	if frame {
		t.stats.Frames++
	}
	o := t.find(id, monoNs)
	if o == nil {
		if frame {
			t.stats.LateFrames++
		}
		return
	}
	kept, lostEnd := o.add(ev, t.opts.MaxFrames)
	t.count(kept)
	if !kept && frame {
		t.stats.LeftOutFrames++
	}
	if lostEnd {
		t.stats.LostEnds++
	}
	t.settle(o)
	if ev.Kind == event.KindFacts {
		t.lookBack(&ev.Facts)
	}
}

// count counts an event that was kept, or for which there was no room.
func (t *Tracker) count(kept bool) {
	if kept {
		t.held++
	} else {
		t.stats.LeftOut++
	}
}

// Advance tells the time and emits the journeys that have waited long enough.
// nowMonoNs is the CLOCK_MONOTONIC up to which the ring has been read: the
// present only when the ring was found empty, else the frames that still lie in
// it would be given up. A time before one that is known already changes nothing.
func (t *Tracker) Advance(nowMonoNs uint64) {
	t.nowMonoNs = max(t.nowMonoNs, nowMonoNs)
	for o := t.waiting.front; o != nil && t.silent(o) >= t.opts.LingerNs; o = t.waiting.front {
		t.close(o)
	}
	for o := t.running.front; o != nil && t.silent(o) >= t.opts.IdleNs; o = t.running.front {
		t.close(o)
	}
}

// CloseAll is Advance, and emits all that are open, as the program is to exit.
func (t *Tracker) CloseAll(nowMonoNs uint64) {
	t.Advance(nowMonoNs)
	for o := t.longestSilent(); o != nil; o = t.longestSilent() {
		t.close(o)
	}
}

// find gives the journey of that id and opens it when it is new. It gives nil,
// and counts the event as late, when the journey was emitted lately.
func (t *Tracker) find(id, monoNs uint64) *open {
	t.nowMonoNs = max(t.nowMonoNs, monoNs)
	if t.last != nil && t.last.ID == id {
		return t.last
	}
	o, known := t.journeys[id]
	switch {
	case !known:
		o = t.open(id)
	case o == nil:
		t.stats.LateEvents++
		return nil
	}
	t.last = o
	return o
}

func (t *Tracker) open(id uint64) *open {
	if t.openCount() >= uint64(t.opts.MaxJourneys) {
		t.evict(t.longestSilent())
	}
	o := t.take()
	o.reset(id)
	t.journeys[id] = o
	return o
}

// settle closes o when it is complete, else notes that it had an event, and
// makes room when too much is held.
func (t *Tracker) settle(o *open) {
	switch {
	case o.complete():
		t.close(o)
		return
	case len(o.skbs) > t.opts.MaxFrames:
		t.evict(o)
		return
	}
	t.touch(o)
	if t.held > t.opts.MaxHeld {
		t.evict(t.longestSilent())
	}
}

// touch puts o at the end of the list that it belongs in.
func (t *Tracker) touch(o *open) {
	o.lastMonoNs = t.nowMonoNs
	l := &t.running
	if o.live == 0 {
		l = &t.waiting
	}
	if l.back == o {
		return
	}
	if o.in != nil {
		o.in.remove(o)
	}
	l.pushBack(o)
}

func (t *Tracker) silent(o *open) uint64 { return t.nowMonoNs - o.lastMonoNs }

// longestSilent gives nil when no journey is open.
func (t *Tracker) longestSilent() *open {
	w, r := t.waiting.front, t.running.front
	if w == nil || r != nil && r.lastMonoNs < w.lastMonoNs {
		return r
	}
	return w
}

func (t *Tracker) evict(o *open) {
	t.stats.Evicted++
	o.Evicted = true
	t.close(o)
}

// close emits o as it is, remembers its id and takes its memory back.
func (t *Tracker) close(o *open) {
	if o.in != nil {
		o.in.remove(o)
	}
	if t.last == o {
		t.last = nil
	}
	t.forget(o.ID)
	t.held -= o.events()
	t.finish(o)
	t.emit(&o.Journey)
	t.giveBack(o)
}

// finish sets the marks of a journey that is to be emitted and counts them.
func (t *Tracker) finish(o *open) {
	o.Unfinished = o.live > 0
	o.LostFrames = o.missing()
	o.Incomplete = o.Incomplete || !o.started

	s := &t.stats
	s.Emitted++
	s.EmittedFrames += uint64(len(o.Frames))
	s.LostFrames += uint64(o.LostFrames)
	if o.Unfinished {
		s.Unfinished++
	}
	if !o.started {
		s.LostStarts++
	}
}

// forget makes an open journey's id one of those emitted lately, in place of
// the one that has been so for longest.
func (t *Tracker) forget(id uint64) {
	t.journeys[id] = nil
	if len(t.recent) < t.opts.MaxJourneys {
		t.recent = append(t.recent, id)
		return
	}
	delete(t.journeys, t.recent[t.oldest])
	t.recent[t.oldest] = id
	t.oldest = (t.oldest + 1) % len(t.recent)
}

// take gives memory for a journey, what giveBack got last if there is any.
func (t *Tracker) take() *open {
	n := len(t.free)
	if n == 0 {
		return &open{}
	}
	o := t.free[n-1]
	t.free[n-1], t.free = nil, t.free[:n-1]
	t.freeRoom -= o.room()
	return o
}

// giveBack keeps the memory of an emitted journey for later ones, but never for
// more events than may be held.
func (t *Tracker) giveBack(o *open) {
	if t.freeRoom+o.room() > t.opts.MaxHeld {
		return
	}
	t.freeRoom += o.room()
	t.free = append(t.free, o)
}
