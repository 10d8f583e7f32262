package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// fakeShedder is a kernel side that sheds.
type fakeShedder struct {
	counters bpf.Counters
	frames   map[uint64]uint64
}

func (k *fakeShedder) Counters() (bpf.Counters, error)        { return k.counters, nil }
func (k *fakeShedder) ShedFrames() (map[uint64]uint64, error) { return maps.Clone(k.frames), nil }

func (k *fakeShedder) Shed(functions []uint64) error {
	for _, function := range functions {
		k.frames[function] += 0
	}
	return nil
}

func (k *fakeShedder) Restore() (map[uint64]uint64, error) {
	frames := k.frames
	k.frames = map[uint64]uint64{}
	return frames, nil
}

// shedNames are of functions by their address; 0x40 has none.
func shedNames(addr uint64) spans.Function {
	return spans.Function{Name: map[uint64]string{0x10: "ip_rcv", 0x20: "skb_clone", 0x30: "udp_rcv"}[addr]}
}

// A flood sheds the busiest functions, but not one with kin; what they would have given
// is counted; a minute after it they are recorded again, and still counted.
func TestShedding(t *testing.T) {
	log := &lockedLog{}
	kernel := &fakeShedder{frames: map[uint64]uint64{}}
	now := uint64(time.Hour)
	s := newShedding(100, kernel, shedNames, now, newLogger(log))
	pass := func(each int, functions ...uint64) export.Summary {
		t.Helper()
		for _, function := range functions {
			for range each {
				s.budget.Count(&event.Event{Kind: event.KindFrame, Frame: event.Frame{Func: function, Ordinal: 2}})
			}
		}
		now += uint64(guard.BudgetWindow)
		if err := s.look(now); err != nil {
			t.Fatal(err)
		}
		var summary export.Summary
		if err := s.summarize(&summary); err != nil {
			t.Fatal(err)
		}
		return summary
	}
	check := func(when string, got export.Summary, functions, frames uint64) {
		t.Helper()
		if got.FunctionsShed != functions || got.FramesShed != frames {
			t.Errorf("%s: %d functions shed and %d frames, want %d and %d", when, got.FunctionsShed, got.FramesShed, functions, frames)
		}
	}

	check("few events", pass(60, 0x10, 0x20, 0x30, 0x40), 0, 0)
	pass(300, 0x10, 0x20, 0x20)
	if got := slices.Sorted(maps.Keys(kernel.frames)); !slices.Equal(got, []uint64{0x10}) {
		t.Errorf("%#x are shed, want the one without kin", got)
	}
	pass(150, 0x30, 0x30, 0x40)
	if got := slices.Sorted(maps.Keys(kernel.frames)); !slices.Equal(got, []uint64{0x10, 0x30}) {
		t.Errorf("%#x are shed", got)
	}
	kernel.frames[0x10], kernel.frames[0x30] = 700, 70
	check("shed", pass(1, 0x40), 2, 770)
	for range 20 {
		pass(1, 0x40)
	}
	check("restored", pass(1, 0x40), 0, 770)
	kernel.counters.RingFullFrames = 3000
	pass(1, 0x40)
	check("shed once more", pass(1, 0x10), 1, 770)

	for _, line := range []string{
		`level=WARN msg="more events come than are permitted: the functions that give most are shed, and traces lack them until it has been quiet for a minute" events_per_second=300 permitted=100 functions="ip_rcv 100/s"`,
		`events_per_second=150 permitted=100 functions="udp_rcv 100/s"`,
		`level=INFO msg="it has been quiet for a minute: the functions that were shed are recorded again" events_per_second=0 permitted=100 functions=2 frames_not_recorded=770`,
		`events_per_second=1000 permitted=100 functions="0x40 0/s"`,
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %s\n%s", line, log)
		}
	}
}

// When all is shed that can be, that is said.
func TestSheddingFallsShort(t *testing.T) {
	log := &lockedLog{}
	s := newShedding(1, &fakeShedder{}, shedNames, 0, newLogger(log))
	for range 60 {
		s.budget.Count(&event.Event{Kind: event.KindFacts})
	}
	if err := s.look(uint64(guard.BudgetWindow)); err != nil {
		t.Fatal(err)
	}
	want := `msg="more events come than are permitted, and no function is left that could be shed: narrow the filter, or sample the packets" events_per_second=20 permitted=1`
	if !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s\n%s", want, log)
	}
}

// Without --max-events nothing is asked, and nothing said.
func TestNoShedding(t *testing.T) {
	var s *shedding
	var summary export.Summary
	if err := s.look(uint64(time.Hour)); err != nil {
		t.Error(err)
	}
	if err := s.summarize(&summary); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(export.Summary{}, summary); diff != "" {
		t.Error(diff)
	}
}
