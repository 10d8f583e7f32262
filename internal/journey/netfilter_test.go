package journey

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func conntrackAt(at uint64) event.Event {
	return event.Event{Kind: event.KindConntrack, Conntrack: event.Conntrack{Journey: 1, Skb: 0xa, AtMonoNs: at}}
}

func ruleAt(at uint64) event.Event {
	return event.Event{Kind: event.KindRule, Rule: event.Rule{Journey: 1, Skb: 0xa, AtMonoNs: at, What: event.RuleDrops}}
}

// Connections and rules are the journey's, in the order of their time; they begin
// no skb and end none, and the next journey in that memory has none of them.
func TestConntracksAndRulesBelongToTheJourney(t *testing.T) {
	var got [][]uint64
	tracker := NewTracker(Options{}, func(j *Journey) {
		var at []uint64
		for i := range j.Conntracks {
			at = append(at, j.Conntracks[i].AtMonoNs)
		}
		for i := range j.Rules {
			at = append(at, j.Rules[i].AtMonoNs)
		}
		got = append(got, at)
		if j.Unfinished || j.Evicted || j.LostFrames > 0 {
			t.Errorf("journey %d is damaged", j.ID)
		}
	})
	second := start(0xb, 30)
	second.Facts.Journey = 2
	last := end(0xb, 31, 0)
	last.End.Journey = 2
	for _, ev := range []event.Event{
		start(0xa, 1), conntrackAt(5), conntrackAt(3), ruleAt(8), frame(0xa, 2, 9), end(0xa, 10, 1), conntrackAt(7),
		second, last,
	} {
		tracker.Add(&ev)
	}
	if diff := cmp.Diff([][]uint64{{3, 5, 8}, nil}, got); diff != "" {
		t.Errorf("times of connections and rules of each journey (-want +got):\n%s", diff)
	}
	if s := tracker.Stats(); s.LateEvents != 1 {
		t.Errorf("%d late events, want the one connection", s.LateEvents)
	}
}

// A journey takes no more of them than of frames.
func TestConntracksAreBounded(t *testing.T) {
	kept := 0
	tracker := NewTracker(Options{MaxFrames: 4}, func(j *Journey) { kept = len(j.Conntracks) })
	for _, ev := range []event.Event{
		start(0xa, 1), conntrackAt(2), conntrackAt(3), conntrackAt(4), conntrackAt(5), conntrackAt(6), end(0xa, 7, 0),
	} {
		tracker.Add(&ev)
	}
	if s := tracker.Stats(); kept != 4 || s.LeftOut != 1 {
		t.Errorf("%d kept, %d left out; want 4 and 1", kept, s.LeftOut)
	}
}
