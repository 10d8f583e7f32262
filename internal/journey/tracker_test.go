package journey

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// The events of these tests are of journey 1 unless they say otherwise. Times
// are in nanoseconds of CLOCK_MONOTONIC.

func start(skb, at uint64) event.Event {
	return event.Event{Kind: event.KindFacts, Facts: event.Facts{
		Journey: 1, Skb: skb, AtMonoNs: at, Number: 1, Flags: event.FactsStart,
	}}
}

func facts(skb, at uint64, number uint32) event.Event {
	return event.Event{Kind: event.KindFacts, Facts: event.Facts{Journey: 1, Skb: skb, AtMonoNs: at, Number: number}}
}

func frame(skb, enter, exit uint64) event.Event {
	return event.Event{Kind: event.KindFrame, Frame: event.Frame{
		Journey: 1, Skb: skb, EnterMonoNs: enter, ExitMonoNs: exit,
	}}
}

func clone(skb, parent, at uint64) event.Event {
	return event.Event{Kind: event.KindClone, Clone: event.Clone{Journey: 1, Skb: skb, Parent: parent, AtMonoNs: at}}
}

func end(skb, at uint64, entered uint32) event.Event {
	return event.Event{Kind: event.KindEnd, End: event.End{
		Journey: 1, Skb: skb, AtMonoNs: at, Entered: entered, How: event.EndConsumed,
	}}
}

// of makes ev one of another journey.
func of(id uint64, ev event.Event) event.Event {
	ev.Frame.Journey, ev.Facts.Journey, ev.Clone.Journey, ev.End.Journey = id, id, id, id
	ev.Stack.Journey, ev.Fields.Journey = id, id
	return ev
}

// advance stands for a call of Advance in a list of events.
func advance(at uint64) event.Event { return event.Event{Frame: event.Frame{ExitMonoNs: at}} }

func evicted(ev event.Event) event.Event {
	ev.End.How = event.EndEvicted
	return ev
}

// emitted is a journey in short.
type emitted struct {
	ID                              uint64
	After                           int // how many of the steps had been taken
	Frames, Facts, Clones, Ends     int
	Lost                            uint32
	Unfinished, Evicted, Incomplete bool
}

// run takes the steps and gives what was emitted. It calls CloseAll at the end
// when closeAt is not zero.
func run(opts Options, steps []event.Event, closeAt uint64) ([]emitted, Stats) {
	var got []emitted
	step := 0
	t := NewTracker(opts, func(j *Journey) {
		got = append(got, emitted{
			ID: j.ID, After: step,
			Frames: len(j.Frames), Facts: len(j.Facts), Clones: len(j.Clones), Ends: len(j.Ends),
			Lost: j.LostFrames, Unfinished: j.Unfinished, Evicted: j.Evicted, Incomplete: j.Incomplete,
		})
	})
	for i := range steps {
		step = i + 1
		if steps[i].Kind == 0 {
			t.Advance(steps[i].Frame.ExitMonoNs)
			continue
		}
		t.Add(&steps[i])
	}
	if closeAt != 0 {
		t.CloseAll(closeAt)
	}
	return got, t.Stats()
}

// late marks a start of which the packet may have passed functions before.
func late(ev event.Event) event.Event {
	ev.Facts.Flags |= event.FactsLate
	return ev
}

func TestTracker(t *testing.T) {
	const second = 1_000_000_000
	tests := []struct {
		name    string
		opts    Options
		steps   []event.Event
		closeAt uint64
		want    []emitted
		stats   Stats
	}{
		{
			name: "emitted at once when every frame came",
			steps: []event.Event{
				start(0xa, 10), frame(0xa, 11, 12), end(0xa, 20, 1), advance(21),
			},
			want:  []emitted{{ID: 1, After: 3, Frames: 1, Facts: 1, Ends: 1}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1},
		},
		{
			name: "a start that may be late is marked",
			steps: []event.Event{
				late(start(0xa, 10)), frame(0xa, 11, 12), end(0xa, 20, 1), advance(21),
			},
			want:  []emitted{{ID: 1, After: 3, Frames: 1, Facts: 1, Ends: 1, Incomplete: true}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1},
		},
		{
			name: "a frame that still runs at the end returns",
			steps: []event.Event{
				start(0xa, 10), frame(0xa, 12, 13), end(0xa, 20, 2), advance(21), frame(0xa, 11, 30), advance(31),
			},
			want:  []emitted{{ID: 1, After: 5, Frames: 2, Facts: 1, Ends: 1}},
			stats: Stats{Frames: 2, Emitted: 1, EmittedFrames: 2},
		},
		{
			name: "a frame that never comes is waited for and counted",
			steps: []event.Event{
				start(0xa, 10), frame(0xa, 12, 13), end(0xa, 20, 2),
				advance(19 + second), advance(20 + second), frame(0xa, 11, 21+second),
			},
			want: []emitted{{ID: 1, After: 5, Frames: 1, Facts: 1, Ends: 1, Lost: 1}},
			stats: Stats{
				Frames: 2, Emitted: 1, EmittedFrames: 1, LostFrames: 1, LateEvents: 1, LateFrames: 1,
			},
		},
		{
			name: "a clone keeps the journey open",
			steps: []event.Event{
				start(0xa, 10), clone(0xb, 0xa, 11), frame(0xa, 10, 12), end(0xa, 13, 1),
				advance(14 + second), frame(0xb, 15, 16), end(0xb, 17, 1),
			},
			want:  []emitted{{ID: 1, After: 7, Frames: 2, Facts: 1, Clones: 1, Ends: 2}},
			stats: Stats{Frames: 2, Emitted: 1, EmittedFrames: 2},
		},
		{
			name:  "without a start it is incomplete",
			steps: []event.Event{frame(0xa, 11, 12), end(0xa, 20, 1)},
			want:  []emitted{{ID: 1, After: 2, Frames: 1, Ends: 1, Incomplete: true}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1, LostStarts: 1},
		},
		{
			name:  "a start behind a frame is a start",
			steps: []event.Event{frame(0xa, 11, 12), start(0xa, 10), end(0xa, 20, 1)},
			want:  []emitted{{ID: 1, After: 3, Frames: 1, Facts: 1, Ends: 1}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1},
		},
		{
			name: "silent for long: unfinished",
			steps: []event.Event{
				start(0xa, 10), frame(0xa, 11, 12), advance(11 + 60*second), advance(12 + 60*second), end(0xa, 13, 1),
			},
			want:  []emitted{{ID: 1, After: 4, Frames: 1, Facts: 1, Unfinished: true}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1, Unfinished: 1, LateEvents: 1},
		},
		{
			name: "an event starts the silence anew",
			opts: Options{IdleNs: 100},
			steps: []event.Event{
				start(0xa, 10), advance(109), facts(0xa, 109, 2), advance(208), advance(209),
			},
			want:  []emitted{{ID: 1, After: 5, Facts: 2, Unfinished: true}},
			stats: Stats{Emitted: 1, Unfinished: 1},
		},
		{
			name:    "open at exit: unfinished; waiting at exit: frames lost",
			steps:   []event.Event{start(0xa, 10), of(2, start(0xb, 10)), of(2, end(0xb, 12, 3))},
			closeAt: 13,
			want: []emitted{
				{ID: 1, After: 3, Facts: 1, Unfinished: true},
				{ID: 2, After: 3, Facts: 1, Ends: 1, Lost: 3},
			},
			stats: Stats{Emitted: 2, Unfinished: 1, LostFrames: 3},
		},
		{
			name: "an address that comes back is another skb",
			steps: []event.Event{
				start(0xa, 10), frame(0xa, 10, 11),
				clone(0xb, 0xa, 12), end(0xb, 14, 1), // its frame still runs
				clone(0xb, 0xa, 15), frame(0xb, 16, 17), end(0xb, 18, 1),
				end(0xa, 19, 1), frame(0xb, 13, 20),
			},
			want:  []emitted{{ID: 1, After: 9, Frames: 3, Facts: 1, Clones: 2, Ends: 3}},
			stats: Stats{Frames: 3, Emitted: 1, EmittedFrames: 3},
		},
		{
			name: "frames of two skbs of one address do not stand in for each other",
			opts: Options{LingerNs: 100},
			steps: []event.Event{
				start(0xa, 10), clone(0xb, 0xa, 12), end(0xb, 14, 2),
				clone(0xb, 0xa, 15), frame(0xb, 16, 17), frame(0xb, 16, 17), end(0xb, 18, 2), end(0xa, 19, 0),
				advance(119),
			},
			want:  []emitted{{ID: 1, After: 9, Frames: 2, Facts: 1, Clones: 2, Ends: 3, Lost: 2}},
			stats: Stats{Frames: 2, Emitted: 1, EmittedFrames: 2, LostFrames: 2},
		},
		{
			name: "a frame more than the end said begins no skb",
			steps: []event.Event{
				start(0xa, 10), clone(0xb, 0xa, 11), frame(0xb, 12, 13), end(0xb, 15, 1), frame(0xb, 14, 16),
				facts(0xb, 14, 2), end(0xa, 20, 0),
			},
			want:  []emitted{{ID: 1, After: 7, Frames: 2, Facts: 2, Clones: 1, Ends: 2}},
			stats: Stats{Frames: 2, Emitted: 1, EmittedFrames: 2},
		},
		{
			name: "an address announced twice has lost its end",
			steps: []event.Event{
				start(0xa, 10), clone(0xb, 0xa, 12), facts(0xb, 12, 1),
				clone(0xb, 0xa, 15), facts(0xb, 15, 1), end(0xb, 18, 0), end(0xa, 19, 0),
			},
			want:  []emitted{{ID: 1, After: 7, Facts: 3, Clones: 2, Ends: 2, Incomplete: true}},
			stats: Stats{Emitted: 1, LostEnds: 1},
		},
		{
			name: "facts alone can show that an end was lost",
			steps: []event.Event{
				start(0xa, 10), facts(0xb, 12, 1), facts(0xb, 15, 1), end(0xb, 18, 0), end(0xa, 19, 0),
			},
			want:  []emitted{{ID: 1, After: 5, Facts: 3, Ends: 2, Incomplete: true}},
			stats: Stats{Emitted: 1, LostEnds: 1},
		},
		{
			name: "room for one: the one silent for longest goes",
			opts: Options{MaxJourneys: 2},
			steps: []event.Event{
				start(0xa, 10), of(2, start(0xb, 11)), frame(0xa, 11, 12), of(3, start(0xc, 13)),
				of(2, frame(0xb, 13, 14)), end(0xa, 15, 1), of(3, end(0xc, 16, 0)),
			},
			want: []emitted{
				{ID: 2, After: 4, Facts: 1, Unfinished: true, Evicted: true},
				{ID: 1, After: 6, Frames: 1, Facts: 1, Ends: 1},
				{ID: 3, After: 7, Facts: 1, Ends: 1},
			},
			stats: Stats{
				Frames: 2, Emitted: 3, EmittedFrames: 1, Unfinished: 1, Evicted: 1, LateEvents: 1, LateFrames: 1,
			},
		},
		{
			name: "an id is remembered for as many journeys as may be open",
			opts: Options{MaxJourneys: 1},
			steps: []event.Event{
				start(0xa, 10), end(0xa, 11, 0), frame(0xa, 11, 12),
				of(2, start(0xb, 20)), of(2, end(0xb, 21, 0)), frame(0xa, 11, 22),
			},
			closeAt: 30,
			want: []emitted{
				{ID: 1, After: 2, Facts: 1, Ends: 1},
				{ID: 2, After: 5, Facts: 1, Ends: 1},
				{ID: 1, After: 6, Frames: 1, Unfinished: true, Incomplete: true},
			},
			stats: Stats{
				Frames: 2, Emitted: 3, EmittedFrames: 1, Unfinished: 1, LostStarts: 1, LateEvents: 1, LateFrames: 1,
			},
		},
		{
			name: "more frames than one journey may have",
			opts: Options{MaxFrames: 2},
			steps: []event.Event{
				start(0xa, 10), frame(0xa, 10, 11), frame(0xa, 12, 13), frame(0xa, 14, 15), end(0xa, 16, 3),
			},
			want:  []emitted{{ID: 1, After: 5, Frames: 2, Facts: 1, Ends: 1, Evicted: true}},
			stats: Stats{Frames: 3, Emitted: 1, EmittedFrames: 2, LeftOut: 1, LeftOutFrames: 1},
		},
		{
			name: "more skbs than one journey may have",
			opts: Options{MaxFrames: 2},
			steps: []event.Event{
				start(0xa, 10), clone(0xb, 0xa, 11), clone(0xc, 0xa, 12), clone(0xd, 0xa, 13),
			},
			want:  []emitted{{ID: 1, After: 3, Facts: 1, Clones: 2, Unfinished: true, Evicted: true}},
			stats: Stats{Emitted: 1, Unfinished: 1, Evicted: 1, LateEvents: 1},
		},
		{
			name: "more events than all journeys may have",
			opts: Options{MaxHeld: 3},
			steps: []event.Event{
				start(0xa, 10), of(2, start(0xb, 11)), of(2, frame(0xb, 11, 12)), of(2, frame(0xb, 12, 13)),
				of(2, end(0xb, 14, 2)),
			},
			want: []emitted{
				{ID: 1, After: 4, Facts: 1, Unfinished: true, Evicted: true},
				{ID: 2, After: 5, Frames: 2, Facts: 1, Ends: 1},
			},
			stats: Stats{Frames: 2, Emitted: 2, EmittedFrames: 2, Unfinished: 1, Evicted: 1},
		},
		{
			name:  "the kernel stopped following",
			steps: []event.Event{start(0xa, 10), evicted(end(0xa, 11, 0))},
			want:  []emitted{{ID: 1, After: 2, Facts: 1, Ends: 1, Evicted: true}},
			stats: Stats{Emitted: 1},
		},
		{
			name:    "still open",
			steps:   []event.Event{start(0xa, 10), frame(0xa, 10, 11)},
			stats:   Stats{Open: 1, HeldFrames: 1, Frames: 1},
			closeAt: 0,
		},
		{
			name:  "an unknown kind is ignored",
			steps: []event.Event{{Kind: 200}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, stats := run(tt.opts, tt.steps, tt.closeAt)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("emitted (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.stats, stats); d != "" {
				t.Errorf("stats (-want +got):\n%s", d)
			}
		})
	}
}

// Records of different CPUs may swap places in the ring.
func TestOrderOfTime(t *testing.T) {
	var got Journey
	tracker := NewTracker(Options{}, func(j *Journey) { got = *j })
	for _, ev := range []event.Event{
		start(0xa, 10), facts(0xa, 30, 3), facts(0xa, 20, 2), clone(0xb, 0xa, 9), clone(0xc, 0xa, 8),
		frame(0xa, 12, 14), frame(0xa, 11, 13),
		end(0xb, 41, 0), end(0xc, 40, 0), end(0xa, 39, 2),
	} {
		tracker.Add(&ev)
	}
	type times struct{ Facts, Clones, Ends, Exits []uint64 }
	var have times
	for i := range got.Facts {
		have.Facts = append(have.Facts, got.Facts[i].AtMonoNs)
	}
	for _, c := range got.Clones {
		have.Clones = append(have.Clones, c.AtMonoNs)
	}
	for _, e := range got.Ends {
		have.Ends = append(have.Ends, e.AtMonoNs)
	}
	for i := range got.Frames {
		have.Exits = append(have.Exits, got.Frames[i].ExitMonoNs)
	}
	want := times{Facts: []uint64{10, 20, 30}, Clones: []uint64{8, 9}, Ends: []uint64{39, 40, 41}, Exits: []uint64{14, 13}}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("times (-want +got):\n%s", d)
	}
}

// Frames of functions without an skb are not among those entered on it. What is
// around them comes after them, so that the journey waits for it, not for them.
func TestFramesWithoutSkb(t *testing.T) {
	noSkb := func(enter, exit uint64) event.Event {
		ev := frame(0xa, enter, exit)
		ev.Frame.Flags = event.FrameNoSkb
		return ev
	}
	lossy := frame(0xa, 11, 40)
	lossy.Frame.Flags = event.FrameCalleesLost
	tests := []struct {
		name  string
		steps []event.Event
		want  emitted
	}{
		{
			"before and after the end of the skb",
			[]event.Event{start(0xa, 10), noSkb(12, 13), end(0xa, 20, 1), noSkb(21, 22), frame(0xa, 11, 30)},
			emitted{ID: 1, After: 5, Frames: 3, Facts: 1, Ends: 1},
		},
		{
			"they stand in for no frame of the skb",
			[]event.Event{start(0xa, 10), noSkb(12, 13), noSkb(14, 15), end(0xa, 20, 1), advance(20 + DefaultLingerNs)},
			emitted{ID: 1, After: 5, Frames: 2, Facts: 1, Ends: 1, Lost: 1},
		},
		{
			"some of them are missing",
			[]event.Event{start(0xa, 10), end(0xa, 20, 1), lossy},
			emitted{ID: 1, After: 3, Frames: 1, Facts: 1, Ends: 1, Incomplete: true},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := run(Options{}, tt.steps, 0)
			if diff := cmp.Diff([]emitted{tt.want}, got); diff != "" {
				t.Errorf("emitted (-want +got):\n%s", diff)
			}
		})
	}
}

// A journey of which one frame was entered while functions were shed says so, and is
// complete all the same.
func TestShed(t *testing.T) {
	for _, shed := range []bool{false, true} {
		marked := frame(0xa, 12, 13)
		if shed {
			marked.Frame.Flags = event.FrameShed
		}
		var got []Journey
		tracker := NewTracker(Options{}, func(j *Journey) { got = append(got, *j) })
		for _, ev := range []event.Event{start(0xa, 10), frame(0xa, 10, 11), marked, frame(0xa, 14, 15), end(0xa, 20, 3)} {
			tracker.Add(&ev)
		}
		if len(got) != 1 || got[0].Shed != shed || got[0].Incomplete {
			t.Errorf("want one journey, shed %v: %+v", shed, got)
		}
	}
}
