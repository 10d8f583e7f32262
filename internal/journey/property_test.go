package journey

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// packet acts as the kernel does for one journey: it enters functions, returns
// from them, clones and ends skbs in any order that is possible.
type packet struct {
	id   uint64
	left int // what it does before it ends all
	skbs []*simSkb
	// frames are entered and have not returned; a frame may outlive its skb.
	frames []event.Frame
}

type simSkb struct {
	addr    uint64
	entered uint32
}

// simulator makes the events of many packets, interleaved.
type simulator struct {
	r      *rand.Rand
	now    uint64
	serial uint64 // goes to Frame.Func, so that each frame is unique
	out    []event.Event
}

func simulate(seed uint64, packets int) []event.Event {
	s := &simulator{r: rand.New(rand.NewPCG(seed, 0)), now: 1000}
	var open []*packet
	for id := 1; id <= packets || len(open) > 0; {
		s.now += 1 + uint64(s.r.IntN(50))
		if id <= packets && (len(open) == 0 || len(open) < 20 && s.r.IntN(4) == 0) {
			open = append(open, s.begin(uint64(id)))
			id++
			continue
		}
		i := s.r.IntN(len(open))
		if !s.step(open[i]) {
			open = slices.Delete(open, i, i+1)
		}
	}
	return s.out
}

func (s *simulator) begin(id uint64) *packet {
	p := &packet{id: id, left: s.r.IntN(60), skbs: []*simSkb{{addr: 0xff00}}}
	s.out = append(s.out, of(id, start(0xff00, s.now)))
	return p
}

// step reports whether the packet can do more.
func (s *simulator) step(p *packet) bool {
	p.left--
	switch action := s.r.IntN(10); {
	case p.left < 0 && len(p.frames) == 0 && len(p.skbs) == 0:
		return false
	case len(p.frames) > 0 && (action < 4 || len(p.skbs) == 0):
		s.leave(p)
	case p.left < 0 || action == 4 && len(p.skbs) > 1:
		s.end(p)
	case action == 5:
		s.clone(p)
	case len(p.skbs) > 0:
		s.enter(p)
	}
	return true
}

func (s *simulator) enter(p *packet) {
	skb := p.skbs[s.r.IntN(len(p.skbs))]
	skb.entered++
	s.serial++
	p.frames = append(p.frames, event.Frame{
		Journey: p.id, Skb: skb.addr, Func: s.serial, EnterMonoNs: s.now, Ordinal: skb.entered,
	})
}

func (s *simulator) leave(p *packet) {
	i := s.r.IntN(len(p.frames))
	f := p.frames[i]
	p.frames = slices.Delete(p.frames, i, i+1)
	f.ExitMonoNs = s.now
	s.out = append(s.out, event.Event{Kind: event.KindFrame, Frame: f})
}

func (s *simulator) end(p *packet) {
	if len(p.skbs) == 0 {
		return
	}
	i := s.r.IntN(len(p.skbs))
	s.out = append(s.out, of(p.id, end(p.skbs[i].addr, s.now, p.skbs[i].entered)))
	p.skbs = slices.Delete(p.skbs, i, i+1)
}

// clone takes one of a few addresses, so that they come back.
func (s *simulator) clone(p *packet) {
	addr := 0xff00 + 0x100*uint64(s.r.IntN(4))
	taken := slices.ContainsFunc(p.skbs, func(k *simSkb) bool { return k.addr == addr })
	if taken || len(p.skbs) == 0 {
		return
	}
	s.out = append(s.out, of(p.id, clone(addr, p.skbs[0].addr, s.now)), of(p.id, facts(addr, s.now, 1)))
	p.skbs = append(p.skbs, &simSkb{addr: addr})
}

// follow gives every journey that a Tracker makes of the events.
func follow(opts Options, events []event.Event) ([]Journey, Stats) {
	var got []Journey
	t := NewTracker(opts, func(j *Journey) {
		c := *j
		c.Frames, c.Facts = slices.Clone(j.Frames), slices.Clone(j.Facts)
		c.Clones, c.Ends = slices.Clone(j.Clones), slices.Clone(j.Ends)
		got = append(got, c)
	})
	now := uint64(0)
	for i := range events {
		t.Add(&events[i])
		now = max(now, events[i].Frame.ExitMonoNs, events[i].Facts.AtMonoNs, events[i].End.AtMonoNs)
		if i%16 == 0 {
			t.Advance(now)
		}
	}
	t.CloseAll(now)
	return got, t.Stats()
}

// Whatever order packets do things in, each is emitted once, whole, and by its
// last event.
func TestEveryJourneyIsWhole(t *testing.T) {
	for seed := range uint64(200) {
		events := simulate(seed, 30)
		want := make(map[uint64]int)
		for i := range events {
			if f := &events[i].Frame; events[i].Kind == event.KindFrame {
				want[f.Journey]++
			}
		}
		got, stats := follow(Options{}, events)
		if len(got) != 30 || stats.Emitted != 30 || stats.LateEvents != 0 || stats.LostStarts != 0 || stats.LostEnds != 0 {
			t.Fatalf("seed %d: %d journeys, %+v", seed, len(got), stats)
		}
		for _, j := range got {
			if j.Unfinished || j.Evicted || j.Incomplete || j.LostFrames != 0 || len(j.Frames) != want[j.ID] {
				t.Fatalf("seed %d: journey %d has %d of %d frames, %+v", seed, j.ID, len(j.Frames), want[j.ID], stats)
			}
		}
	}
}

// However much is lost, and however little room there is, each frame that came
// is in one emitted journey or counted, and the same calls give the same.
func TestEveryFrameIsAccountedFor(t *testing.T) {
	options := []Options{
		{},
		{LingerNs: 100, IdleNs: 1000},
		{MaxJourneys: 3},
		{MaxFrames: 5},
		{MaxHeld: 40},
		{LingerNs: 1, IdleNs: 1, MaxJourneys: 1, MaxFrames: 1, MaxHeld: 1},
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		events := slices.DeleteFunc(simulate(seed, 30), func(event.Event) bool { return r.IntN(10) == 0 })
		for _, opts := range options {
			checkAccount(t, seed, opts, events)
		}
	}
}

func checkAccount(t *testing.T, seed uint64, opts Options, events []event.Event) {
	t.Helper()
	got, stats := follow(opts, events)
	seen := make(map[uint64]bool)
	for i := range got {
		for _, f := range got[i].Frames {
			if seen[f.Func] {
				t.Fatalf("seed %d: %+v: frame %d came twice", seed, opts, f.Func)
			}
			seen[f.Func] = true
			if f.Journey != got[i].ID {
				t.Fatalf("seed %d: %+v: journey %d has a frame of %d", seed, opts, got[i].ID, f.Journey)
			}
		}
	}
	frames := uint64(0)
	for i := range events {
		if events[i].Kind == event.KindFrame {
			frames++
		}
	}
	counted := stats.LateFrames + stats.LeftOutFrames
	if stats.Open != 0 || stats.HeldFrames != 0 || stats.Frames != frames || uint64(len(seen))+counted != frames ||
		stats.EmittedFrames != uint64(len(seen)) {
		t.Fatalf("seed %d: %+v: %d frames, %d emitted: %+v", seed, opts, frames, len(seen), stats)
	}
	again, _ := follow(opts, events)
	if !reflect.DeepEqual(got, again) { // cmp.Diff takes seconds for what is equal and long
		t.Fatalf("seed %d: %+v: a second run differs:\n%s", seed, opts, cmp.Diff(got, again))
	}
}

// FuzzTracker takes any events at all: three bytes each, so that ids, addresses
// and times collide.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{2, 0x11, 10, 1, 0x11, 11, 4, 0x11, 12})
	f.Add([]byte{3, 0x12, 10, 3, 0x12, 5, 2, 0x12, 6, 4, 0x12, 7, 1, 0x12, 8, 0, 0, 200})
	f.Fuzz(func(t *testing.T, data []byte) {
		var events []event.Event
		for ; len(data) >= 3; data = data[3:] {
			events = append(events, fuzzEvent(data[0], data[1], uint64(data[2]), uint64(len(events))))
		}
		for _, opts := range []Options{{LingerNs: 10, IdleNs: 50}, {MaxJourneys: 2, MaxFrames: 2, MaxHeld: 5}} {
			checkAccount(t, 0, opts, events)
		}
	})
}

func fuzzEvent(kind, where byte, at, serial uint64) event.Event {
	id, skb := uint64(where>>4), uint64(where&7)
	ev := event.Event{Kind: event.Kind(kind % 5)}
	switch ev.Kind {
	case event.KindFrame:
		ev.Frame = event.Frame{Journey: id, Skb: skb, Func: serial, EnterMonoNs: at, ExitMonoNs: at + uint64(kind>>4)}
	case event.KindFacts:
		ev.Facts = event.Facts{
			Journey: id, Skb: skb, AtMonoNs: at,
			Number: uint32(kind >> 6), Flags: event.FactsFlags(kind >> 5 & 1),
		}
	case event.KindClone:
		ev.Clone = event.Clone{Journey: id, Skb: skb, AtMonoNs: at}
	case event.KindEnd:
		ev.End = event.End{Journey: id, Skb: skb, AtMonoNs: at, Entered: uint32(kind >> 4), How: event.EndHow(kind>>5) + 1}
	}
	return ev
}
