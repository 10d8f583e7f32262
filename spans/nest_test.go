package spans

import (
	"math/rand/v2"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// randomJourney is a forest of frames as no kernel would make it: overlapping,
// on several stacks and CPUs, in random order, some without a return.
func randomJourney(r *rand.Rand, k *fakeKernel) *journey.Journey {
	names := []string{"ip_rcv", "ip_output", "skb_push", "nf_hook_slow", "veth:veth_xmit", "kfree_skb"}
	j := &journey.Journey{ID: r.Uint64()}
	n := r.IntN(60)
	span := uint64(1 + r.IntN(200)) // small: many equal times
	for i := range n {
		enter := 1000 + r.Uint64N(span)
		f := event.Frame{
			Skb: skbA + uint64(r.IntN(3))*0x100, Func: k.fn(names[r.IntN(len(names))]),
			Stack:       taskStack + uint64(r.IntN(3))*kernelStackSize + uint64(r.IntN(64))*8,
			EnterMonoNs: enter, ExitMonoNs: enter + r.Uint64N(span), Ordinal: uint32(i),
			TID: uint32(r.IntN(3)), CPU: uint16(r.IntN(2)), Len: uint32(r.IntN(2)), Facts: uint32(r.IntN(4)),
		}
		switch r.IntN(12) {
		case 0:
			f.ExitMonoNs = 0
		case 1, 2:
			f.ExitMonoNs, f.Flags = f.EnterMonoNs, event.FrameEntryOnly
		}
		j.Frames = append(j.Frames, f)
	}
	for range r.IntN(4) {
		j.Ends = append(j.Ends, event.End{
			Skb: skbA + uint64(r.IntN(3))*0x100, AtMonoNs: 1000 + r.Uint64N(span), CPU: uint16(r.IntN(2)),
			How: event.EndHow(1 + r.IntN(6)), Reason: uint32(r.IntN(9)),
		})
		j.Facts = append(j.Facts, event.Facts{
			Skb: skbA + uint64(r.IntN(3))*0x100, Number: uint32(r.IntN(4)), AtMonoNs: 1000 + r.Uint64N(span),
			Ifindex: uint32(r.IntN(3)), NetNS: uint32(r.IntN(3)),
		})
	}
	return j
}

func TestNestingOfAnyForest(t *testing.T) {
	k := newFakeKernel()
	b := testBuilder(k)
	for seed := range uint64(5000) {
		j := randomJourney(rand.New(rand.NewPCG(seed, 1)), k)
		checkTree(t, j, b.Build(j))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// checkTree checks what must hold of every trace.
func checkTree(t *testing.T, j *journey.Journey, tr *Trace) {
	t.Helper()
	if len(tr.Spans) != len(j.Frames)+1 {
		t.Errorf("%d spans of %d frames", len(tr.Spans), len(j.Frames))
	}
	frames := map[event.Frame]int{}
	for _, f := range j.Frames {
		frames[f]++
	}
	seen := map[[8]byte]int{}
	lastChild := map[int32]uint64{}
	for i := range tr.Spans {
		s := &tr.Spans[i]
		seen[s.ID]++
		if seen[s.ID] > 1 || s.ID == [8]byte{} {
			t.Errorf("span %d has id %x again, or none", i, s.ID)
		}
		if s.EndUnixNs <= s.StartUnixNs {
			t.Errorf("span %d lasts from %d to %d", i, s.StartUnixNs, s.EndUnixNs)
		}
		if i == 0 {
			if s.ParentIndex != -1 || s.Parent != [8]byte{} || s.Depth != 0 {
				t.Errorf("root has parent %d %x, depth %d", s.ParentIndex, s.Parent, s.Depth)
			}
			continue
		}
		frames[s.Frame]--
		checkChild(t, tr, i, lastChild)
	}
	for f, n := range frames {
		if n != 0 {
			t.Errorf("frame %+v appears %d times too few", f, n)
		}
	}
}

func checkChild(t *testing.T, tr *Trace, i int, lastChild map[int32]uint64) {
	t.Helper()
	s := &tr.Spans[i]
	if s.ParentIndex < 0 || int(s.ParentIndex) >= i {
		t.Fatalf("span %d has parent %d", i, s.ParentIndex)
	}
	p := &tr.Spans[s.ParentIndex]
	if s.Parent != p.ID || s.Depth != p.Depth+1 {
		t.Errorf("span %d does not agree with its parent %d", i, s.ParentIndex)
	}
	if prev := int32(i - 1); s.ParentIndex != prev && tr.Spans[prev].Depth < s.Depth {
		t.Errorf("span %d is not in depth-first order", i)
	}
	if s.StartUnixNs < p.StartUnixNs || s.EndUnixNs > p.EndUnixNs || s.EnterMonoNs < p.EnterMonoNs || s.ExitMonoNs > p.ExitMonoNs {
		t.Errorf("span %d [%d, %d] sticks out of %d [%d, %d]", i,
			s.StartUnixNs, s.EndUnixNs, s.ParentIndex, p.StartUnixNs, p.EndUnixNs)
	}
	if s.StartUnixNs < lastChild[s.ParentIndex] {
		t.Errorf("span %d starts before the sibling in front of it", i)
	}
	lastChild[s.ParentIndex] = s.StartUnixNs
}

func TestNesting(t *testing.T) {
	const otherStack = taskStack + 8*kernelStackSize
	f := func(name string, enter, exit, stack uint64, cpu uint16, tid uint32) event.Frame {
		return event.Frame{Skb: skbA, Func: 0, EnterMonoNs: enter, ExitMonoNs: exit, Stack: stack, CPU: cpu, TID: tid, Mark: uint32(name[0])}
	}
	const hi, lo = taskStack + 0x2000, taskStack + 0x1000
	for _, c := range []struct {
		name   string
		frames []event.Frame
		parent map[byte]byte // of the frames a, b …; 0: the root
	}{
		{"nested", []event.Frame{f("b", 20, 30, lo, 0, 5), f("a", 10, 40, hi, 0, 5)}, map[byte]byte{'a': 0, 'b': 'a'}},
		{"thread moved to another cpu", []event.Frame{f("a", 10, 40, hi, 0, 5), f("b", 20, 30, lo, 1, 5)}, map[byte]byte{'b': 'a'}},
		{"interrupts of two cpus in one window", []event.Frame{f("a", 10, 40, hi, 0, 0), f("b", 20, 30, lo, 1, 0)}, map[byte]byte{'b': 0}},
		{"stack pointer says no", []event.Frame{f("a", 10, 40, lo, 0, 5), f("b", 20, 30, hi, 0, 5)}, map[byte]byte{'b': 0}},
		{"tail call", []event.Frame{f("a", 10, 40, hi, 0, 5), f("b", 20, 40, hi, 0, 5)}, map[byte]byte{'b': 'a'}},
		{"next call at the same nanosecond", []event.Frame{f("a", 10, 20, hi, 0, 5), f("b", 20, 20, hi, 0, 5)}, map[byte]byte{'b': 0}},
		{"overlap", []event.Frame{f("a", 10, 30, hi, 0, 5), f("b", 20, 40, lo, 0, 5)}, map[byte]byte{'b': 0}},
		{"overlap inside", []event.Frame{f("z", 1, 99, hi+8, 0, 5), f("a", 10, 30, hi, 0, 5), f("b", 20, 40, lo, 0, 5)}, map[byte]byte{'a': 'z', 'b': 'z'}},
		{"soft interrupt on top", []event.Frame{f("a", 10, 40, hi, 0, 5), f("b", 20, 30, otherStack, 0, 5)}, map[byte]byte{'b': 'a'}},
		{"innermost of the interrupted", []event.Frame{f("a", 10, 60, hi, 0, 5), f("b", 20, 50, lo, 0, 5), f("c", 30, 40, otherStack, 0, 5)}, map[byte]byte{'c': 'b'}},
		{"other cpu", []event.Frame{f("a", 10, 40, hi, 0, 5), f("b", 20, 30, otherStack, 1, 5)}, map[byte]byte{'b': 0}},
		{"other thread while this one waits", []event.Frame{f("a", 10, 40, hi, 0, 5), f("b", 20, 30, otherStack, 0, 6)}, map[byte]byte{'b': 0}},
		{"interrupt outlives", []event.Frame{f("a", 10, 40, hi, 0, 5), f("b", 20, 50, otherStack, 0, 5)}, map[byte]byte{'b': 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := testBuilder(newFakeKernel()).Build(&journey.Journey{ID: 1, Frames: c.frames})
			for i := range tr.Spans {
				s := &tr.Spans[i]
				want, ok := c.parent[byte(s.Frame.Mark)]
				if got := byte(0); i > 0 && ok {
					if s.ParentIndex > 0 {
						got = byte(tr.Spans[s.ParentIndex].Frame.Mark)
					}
					if got != want {
						t.Errorf("parent of %c is %q, want %q", s.Frame.Mark, got, want)
					}
				}
			}
		})
	}
}
