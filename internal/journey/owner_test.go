package journey

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func owner(skb, sock, at uint64) event.Event {
	return event.Event{Kind: event.KindOwner, Owner: event.Owner{Journey: 1, Skb: skb, Sock: sock, AtMonoNs: at}}
}

// Owners come into the order of their times, count as events that are held, and
// are given up beyond the limit; they neither begin nor end an skb.
func TestOwners(t *testing.T) {
	type result struct {
		Socks   []uint64
		Evicted bool
		Lost    uint32
	}
	for _, test := range []struct {
		name  string
		steps []event.Event
		limit int
		want  []result
	}{
		{
			"in the order of time",
			[]event.Event{start(7, 10), owner(7, 1, 11), owner(7, 3, 40), owner(7, 2, 30), frame(7, 12, 20), end(7, 50, 1)},
			0,
			[]result{{Socks: []uint64{1, 2, 3}}},
		},
		{
			"before the start came",
			[]event.Event{owner(7, 1, 11), start(7, 10), frame(7, 12, 20), end(7, 50, 1)},
			0,
			[]result{{Socks: []uint64{1}}},
		},
		{
			"too many",
			[]event.Event{start(7, 10), owner(7, 1, 11), owner(7, 2, 12), owner(7, 3, 13), frame(7, 14, 20), end(7, 50, 1)},
			2,
			[]result{{Socks: []uint64{1, 2}, Evicted: true}},
		},
		{
			"when the journey was emitted",
			[]event.Event{start(7, 10), frame(7, 12, 20), end(7, 50, 1), owner(7, 1, 60)},
			0,
			[]result{{}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []result
			tracker := NewTracker(Options{MaxFrames: test.limit}, func(j *Journey) {
				var socks []uint64
				for _, o := range j.Owners {
					socks = append(socks, o.Sock)
				}
				got = append(got, result{socks, j.Evicted, j.LostFrames})
			})
			for i := range test.steps {
				tracker.Add(&test.steps[i])
			}
			tracker.CloseAll(100)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if tracker.held != 0 {
				t.Errorf("%d events are held when all journeys are closed", tracker.held)
			}
		})
	}
}
