package blockio

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func request(id, parent, startNs, endNs uint64) event.Event {
	return event.Event{Kind: event.KindRequest, Block: event.Block{
		ID: id, Parent: parent, SubmitMonoNs: startNs - 1, IssueMonoNs: startNs, CompleteMonoNs: endNs, Bytes: 512, Done: 512,
	}}
}

func bio(id, parent, startNs, endNs uint64) event.Event {
	return event.Event{Kind: event.KindBio, Block: event.Block{
		ID: id, Parent: parent, SubmitMonoNs: startNs, CompleteMonoNs: endNs, Bytes: 1024,
	}}
}

func merge(id uint64) event.Event {
	return event.Event{Kind: event.KindMerge, Block: event.Block{ID: id, Flags: event.BlockMerged}}
}

func requeue(id, startNs, endNs uint64) event.Event {
	return event.Event{Kind: event.KindRequeue, Block: event.Block{ID: id, IssueMonoNs: startNs, CompleteMonoNs: endNs}}
}

// ends marks a request as the end of its parent.
func ends(ev event.Event) event.Event {
	ev.Block.Flags |= event.BlockEndsParent
	return ev
}

// describe writes a tree on one line.
func describe(r *Request) string {
	var b strings.Builder
	if r.Orphan {
		b.WriteString("orphan ")
	}
	if r.Unfinished {
		b.WriteString("unfinished ")
	}
	if r.Bio {
		b.WriteString("bio ")
	}
	fmt.Fprintf(&b, "%d %d-%d", r.ID, r.StartMonoNs(), r.CompleteMonoNs)
	if n := len(r.Merges); n > 0 {
		fmt.Fprintf(&b, " merges=%d", n)
	}
	for i := range r.Requeues {
		fmt.Fprintf(&b, " requeue@%d", r.Requeues[i].CompleteMonoNs)
	}
	if len(r.Children) > 0 {
		var below []string
		for _, c := range r.Children {
			below = append(below, describe(c))
		}
		fmt.Fprintf(&b, " (%s)", strings.Join(below, ", "))
	}
	return b.String()
}

func TestTracker(t *testing.T) {
	for _, c := range []struct {
		name   string
		opts   Options
		events []event.Event
		at     uint64 // Advance to
		want   []string
		last   []string // emitted by CloseAll at 1000
		stats  Stats    // at the end, but for the sums
	}{
		{
			name:   "plain", // at once
			events: []event.Event{request(1, 0, 10, 20), bio(2, 0, 11, 21)},
			want:   []string{"1 10-20", "bio 2 11-21"},
		},
		{
			name:   "merges and requeues come first",
			events: []event.Event{merge(1), requeue(1, 14, 18), requeue(1, 10, 12), request(2, 0, 11, 12), merge(1), request(1, 0, 10, 20)},
			want:   []string{"2 11-12", "1 10-20 merges=2 requeue@12 requeue@18"},
		},
		{
			name:   "children of two levels, by start",
			events: []event.Event{request(4, 2, 13, 14), request(3, 2, 12, 15), bio(2, 1, 11, 18), request(5, 1, 10, 19), bio(1, 0, 9, 20)},
			want:   []string{"bio 1 9-20 (5 10-19, bio 2 11-18 (3 12-15, 4 13-14))"},
		},
		{
			name:   "handed on and ended by the request below",
			events: []event.Event{bio(1, 0, 9, 0), request(2, 1, 10, 15), ends(request(3, 1, 11, 20))},
			want:   []string{"bio 1 9-20 (2 10-15, 3 11-20)"},
		},
		{
			name:   "handed on, its record late",
			events: []event.Event{ends(request(3, 1, 11, 20)), bio(1, 0, 9, 0)},
			want:   []string{"bio 1 9-20 (3 11-20)"},
		},
		{
			name:   "handed on twice, below another bio",
			events: []event.Event{bio(2, 1, 9, 0), ends(bio(3, 2, 10, 0)), ends(request(4, 3, 11, 20)), bio(1, 0, 8, 21)},
			want:   []string{"bio 1 8-21 (bio 2 9-20 (bio 3 10-20 (4 11-20)))"},
		},
		{
			name:   "parent unknown until idle",
			opts:   Options{IdleNs: 100},
			events: []event.Event{request(3, 2, 12, 13), request(2, 1, 11, 14), request(5, 1, 10, 15), request(7, 6, 10, 90)},
			at:     120,
			want:   []string{"orphan 2 11-14 (3 12-13)", "orphan 5 10-15"},
			last:   []string{"orphan 7 10-90"},
			stats:  Stats{Orphans: 3},
		},
		{
			name:   "child after its parent was emitted",
			events: []event.Event{bio(1, 0, 9, 20), request(2, 1, 10, 19)},
			want:   []string{"bio 1 9-20", "orphan 2 10-19"},
			stats:  Stats{Orphans: 1, Late: 1},
		},
		{
			name:   "under way at the end",
			events: []event.Event{request(3, 2, 12, 15), merge(4), request(2, 1, 11, 0), request(4, 0, 10, 0), bio(1, 0, 9, 0), request(6, 5, 30, 0)},
			last: []string{
				"unfinished 4 10-1000 merges=1", "unfinished bio 1 9-1000 (unfinished 2 11-1000 (3 12-15))",
				"orphan unfinished 6 30-1000",
			},
			stats: Stats{Orphans: 1, Unfinished: 4},
		},
		{
			name:   "under way and in a circle",
			events: []event.Event{request(1, 2, 10, 0), request(2, 1, 10, 0), request(3, 3, 10, 0), request(4, 1, 10, 0)},
			last:   []string{"orphan unfinished 1 10-1000", "orphan unfinished 2 10-1000", "orphan unfinished 3 10-1000", "orphan unfinished 4 10-1000"},
			stats:  Stats{Orphans: 4, Unfinished: 4},
		},
		{
			name:   "handed on and silent",
			opts:   Options{IdleNs: 100},
			events: []event.Event{bio(1, 0, 9, 0), bio(2, 0, 200, 0)},
			at:     210,
			want:   []string{"unfinished bio 1 9-210"},
			last:   []string{"unfinished bio 2 200-1000"},
			stats:  Stats{Unfinished: 2},
		},
		{
			name:   "more than may be held",
			opts:   Options{MaxHeld: 2},
			events: []event.Event{request(2, 1, 10, 11), request(4, 3, 12, 13), request(5, 3, 14, 15), request(3, 0, 9, 16)},
			want:   []string{"orphan 2 10-11", "3 9-16 (4 12-13, 5 14-15)"},
			stats:  Stats{Orphans: 1, Evicted: 1},
		},
		{
			name:   "attachments without a request",
			opts:   Options{IdleNs: 100},
			events: []event.Event{merge(1), requeue(1, 10, 11), merge(2)},
			at:     500,
			stats:  Stats{Stranded: 3},
		},
		{
			name:   "other kinds",
			events: []event.Event{{Kind: event.KindFrame}, {Kind: 99}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			tr := NewTracker(c.opts, func(r *Request) { got = append(got, describe(r)) })
			for i := range c.events {
				tr.Add(&c.events[i])
				checkSums(t, tr)
			}
			tr.Advance(c.at)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("emitted (-want +got):\n%s", diff)
			}
			got = nil
			tr.CloseAll(1000)
			checkSums(t, tr)
			if diff := cmp.Diff(c.last, got); diff != "" {
				t.Errorf("emitted at the end (-want +got):\n%s", diff)
			}
			s := tr.Stats()
			losses := Stats{Orphans: s.Orphans, Unfinished: s.Unfinished, Evicted: s.Evicted, Late: s.Late, Stranded: s.Stranded}
			if diff := cmp.Diff(c.stats, losses); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHandedOnBioTakesTheResult(t *testing.T) {
	for _, c := range []struct {
		name     string
		children []event.Block
		status   int32
		flags    event.BlockFlags
		done     uint32
	}{
		{"success", []event.Block{{Done: 512}, {Done: 256}}, 0, 0, 768},
		{"first failure", []event.Block{{Status: 7}, {Status: 10, Done: 512}}, 7, 0, 512},
		{"errno", []event.Block{{}, {Status: -5, Flags: event.BlockErrno}}, -5, event.BlockErrno, 0},
		{"too many bytes", []event.Block{{Done: 1<<32 - 1}, {Done: 1}}, 0, 0, 1<<32 - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got event.Block
			tr := NewTracker(Options{}, func(r *Request) { got = r.Block })
			upper := bio(1, 0, 9, 0)
			tr.Add(&upper)
			for i, b := range c.children {
				ev := request(uint64(i+2), 1, 10, 20)
				ev.Block.Status, ev.Block.Done, ev.Block.Flags, ev.Block.CPU = b.Status, b.Done, b.Flags, 3
				if i == len(c.children)-1 {
					ev = ends(ev)
				}
				tr.Add(&ev)
			}
			want := upper.Block
			want.CompleteMonoNs, want.Status, want.Flags, want.Done, want.CPU = 20, c.status, c.flags, c.done, 3
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("bio (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	tr := NewTracker(Options{}, func(*Request) {})
	id := uint64(0)
	run := func() {
		id += 10
		for _, ev := range []event.Event{
			request(id, 0, 10, 20), merge(id + 1), requeue(id+1, 10, 12), request(id+1, 0, 10, 20),
			bio(id+2, 0, 9, 0), request(id+3, id+2, 10, 20), ends(request(id+4, id+2, 10, 20)),
		} {
			tr.Add(&ev)
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if s := tr.Stats(); s.Held != 0 {
		t.Errorf("%+v", s)
	}
}

// BenchmarkTracker tells what one record costs: plain requests, with nothing
// held and with another request held, and bios over two requests.
func BenchmarkTracker(b *testing.B) {
	held := merge(1 << 60)
	for _, c := range []struct {
		name   string
		before []event.Event
		events []event.Event
	}{
		{"plain", nil, []event.Event{request(1, 0, 10, 20)}},
		{"plain,held=1", []event.Event{held}, []event.Event{request(1, 0, 10, 20)}},
		{"merged", nil, []event.Event{merge(1), request(1, 0, 10, 20)}},
		{"stacked", nil, []event.Event{request(2, 1, 10, 18), request(3, 1, 11, 19), bio(1, 0, 9, 20)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			t := NewTracker(Options{}, func(*Request) {})
			for i := range c.before {
				t.Add(&c.before[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				for i := range c.events {
					ev := &c.events[i]
					ev.Block.ID += 4
					if ev.Block.Parent != 0 {
						ev.Block.Parent += 4
					}
					t.Add(ev)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(c.events)), "ns/event")
		})
	}
}
