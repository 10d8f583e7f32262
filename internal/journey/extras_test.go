package journey

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func stack(skb, at uint64, addresses ...uint64) event.Event {
	ev := event.Event{Kind: event.KindStack, Stack: event.Stack{
		Journey: 1, Skb: skb, AtMonoNs: at, Kind: event.StackFrame, Depth: uint8(len(addresses)),
	}}
	copy(ev.Stack.Addresses[:], addresses)
	return ev
}

func fields(skb, at uint64) event.Event {
	return event.Event{Kind: event.KindFields, Fields: event.Fields{Journey: 1, Skb: skb, AtMonoNs: at, Bytes: 8}}
}

// extras is what a journey has of them.
type extras struct {
	Stacks  [][]uint64
	Fields  int
	Evicted bool
}

func TestExtras(t *testing.T) {
	tests := []struct {
		name  string
		opts  Options
		steps []event.Event
		want  []extras
		stats Stats
	}{
		{
			name: "kept in their order",
			steps: []event.Event{
				start(0xa, 10), fields(0xa, 10), stack(0xa, 11, 1), stack(0xa, 12, 2, 3), frame(0xa, 11, 13),
				stack(0xa, 14, 4), end(0xa, 15, 1),
			},
			want:  []extras{{Stacks: [][]uint64{{1}, {2, 3}, {4}}, Fields: 1}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1},
		},
		{
			name:  "a journey whose start was lost waits for its end",
			steps: []event.Event{stack(0xa, 11, 1), fields(0xa, 12), frame(0xa, 11, 13), end(0xa, 15, 1)},
			want:  []extras{{Stacks: [][]uint64{{1}}, Fields: 1}},
			stats: Stats{Frames: 1, Emitted: 1, EmittedFrames: 1, LostStarts: 1},
		},
		{
			name:  "too late",
			steps: []event.Event{start(0xa, 10), end(0xa, 11, 0), stack(0xa, 12, 1), fields(0xa, 12)},
			want:  []extras{{}},
			stats: Stats{Emitted: 1, LateEvents: 2},
		},
		{
			name: "more than one journey may have",
			opts: Options{MaxFrames: 1},
			steps: []event.Event{
				start(0xa, 10), stack(0xa, 11, 1), stack(0xa, 11, 2), stack(0xa, 11, 3), fields(0xa, 11), fields(0xa, 12),
				end(0xa, 13, 0),
			},
			want:  []extras{{Stacks: [][]uint64{{1}, {2}}, Fields: 1, Evicted: true}},
			stats: Stats{Emitted: 1, LeftOut: 2},
		},
		{
			name: "their memory is used again",
			steps: []event.Event{
				start(0xa, 10), stack(0xa, 11, 1, 2), end(0xa, 12, 0),
				of(2, start(0xb, 20)), of(2, stack(0xb, 21, 3)), of(2, end(0xb, 22, 0)),
			},
			want:  []extras{{Stacks: [][]uint64{{1, 2}}}, {Stacks: [][]uint64{{3}}}},
			stats: Stats{Emitted: 2},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []extras
			tracker := NewTracker(tt.opts, func(j *Journey) {
				x := extras{Fields: len(j.Fields), Evicted: j.Evicted}
				for i := range j.Stacks {
					x.Stacks = append(x.Stacks, append([]uint64(nil), j.AddressesOf(&j.Stacks[i])...))
				}
				got = append(got, x)
			})
			for i := range tt.steps {
				tracker.Add(&tt.steps[i])
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("emitted (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.stats, tracker.Stats()); d != "" {
				t.Errorf("stats (-want +got):\n%s", d)
			}
		})
	}
}
