package spans

import (
	"cmp"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
)

// kernelStackSize is THREAD_SIZE on the 64-bit machines that we run on; task
// stacks are aligned to it. Stacks of interrupts are as large but on some
// kernels only page aligned: one of them may look like two, or two like one,
// which is why sameFlow is asked as well.
const kernelStackSize = 16384

// node is one frame while its place in the tree is sought.
type node struct {
	enter, exit uint64 // CLOCK_MONOTONIC; exit is never before enter
	stack       uint64
	children    uint64 // nanoseconds in the frames directly below
	frame       int32  // index in Journey.Frames
	parent      int32  // node, -1: the root
	below       int32  // the node under this one in the chain of its kernel stack
	timed       int32  // the nearest of itself and its ancestors whose return is known, -1
	first, last int32  // children
	next        int32  // sibling
	span        int32  // index in Trace.Spans
	tid         uint32
	cpu         uint16
	entryOnly   bool
	incomplete  bool
}

// kernelStack is a chain of the frames that may still be open on one stack.
type kernelStack struct {
	base uint64
	top  int32
}

// sortKey orders frames by entry; on one stack the caller is the higher one.
type sortKey struct {
	enter, stack uint64
	ordinal      uint32
	frame        int32
}

func compareSortKeys(a, b sortKey) int {
	return cmp.Or(
		cmp.Compare(a.enter, b.enter),
		cmp.Compare(b.stack, a.stack),
		cmp.Compare(a.ordinal, b.ordinal),
		cmp.Compare(a.frame, b.frame),
	)
}

// nester finds for each frame of a journey the frame that it runs in. Its
// memory is reused.
type nester struct {
	keys   []sortKey
	nodes  []node // by entry, so a parent comes before its children
	stacks []kernelStack
	roots  []int32 // nodes below the root, by entry
}

// nest fills nodes and roots. endNs closes the frames whose return was never
// seen.
func (n *nester) nest(j *journey.Journey, endNs uint64) {
	n.sort(j.Frames)
	n.nodes, n.stacks, n.roots = n.nodes[:0], n.stacks[:0], n.roots[:0]
	for i := range n.keys {
		n.nodes = append(n.nodes, makeNode(&j.Frames[n.keys[i].frame], n.keys[i].frame, endNs))
		n.place(int32(i))
	}
	n.stretch()
	n.sum()
}

func (n *nester) sort(frames []event.Frame) {
	n.keys = n.keys[:0]
	for i := range frames {
		f := &frames[i]
		n.keys = append(n.keys, sortKey{f.EnterMonoNs, f.Stack, f.Ordinal, int32(i)})
	}
	slices.SortFunc(n.keys, compareSortKeys)
}

func makeNode(f *event.Frame, index int32, endNs uint64) node {
	nd := node{
		enter: f.EnterMonoNs, exit: f.ExitMonoNs, stack: f.Stack,
		frame: index, parent: -1, below: -1, timed: -1, first: -1, last: -1, next: -1,
		tid: f.TID, cpu: f.CPU,
		entryOnly: f.Flags&event.FrameEntryOnly != 0,
	}
	switch {
	case nd.entryOnly:
		nd.exit = nd.enter
	case nd.exit < nd.enter:
		nd.exit, nd.incomplete = max(endNs, nd.enter), true
	}
	return nd
}

// place finds the parent of node i and puts i on top of its kernel stack.
func (n *nester) place(i int32) {
	nd := &n.nodes[i]
	s := n.stackOf(nd.stack)
	s.top = n.open(s.top, nd)
	p := n.innermost(s.top, nd)
	if p < 0 {
		p = n.interrupted(s, nd)
	}
	nd.below, s.top = s.top, i
	nd.parent = p
	if !nd.entryOnly {
		nd.timed = i
	} else if p >= 0 {
		nd.timed = n.nodes[p].timed
	}
	n.link(i, p)
}

func (n *nester) link(i, p int32) {
	if p < 0 {
		if len(n.roots) > 0 {
			n.nodes[n.roots[len(n.roots)-1]].next = i
		}
		n.roots = append(n.roots, i)
		return
	}
	parent := &n.nodes[p]
	if parent.last < 0 {
		parent.first = i
	} else {
		n.nodes[parent.last].next = i
	}
	parent.last = i
}

// stackOf returns the chain of the kernel stack that an address lies on.
func (n *nester) stackOf(addr uint64) *kernelStack {
	base := addr &^ (kernelStackSize - 1)
	for k := range n.stacks {
		if n.stacks[k].base == base {
			return &n.stacks[k]
		}
	}
	n.stacks = append(n.stacks, kernelStack{base: base, top: -1})
	return &n.stacks[len(n.stacks)-1]
}

// open returns the top of a chain without the frames on it that had returned
// when nd was entered.
func (n *nester) open(top int32, nd *node) int32 {
	for top >= 0 {
		t := &n.nodes[top]
		returned := t.exit < nd.enter
		if t.entryOnly {
			returned = t.stack <= nd.stack
		}
		if !returned {
			break
		}
		top = t.below
	}
	return top
}

// innermost returns the uppermost frame of a chain that called nd, -1 if none.
func (n *nester) innermost(top int32, nd *node) int32 {
	for c := top; c >= 0; c = n.nodes[c].below {
		if n.called(c, nd) {
			return c
		}
	}
	return -1
}

// called says whether nd runs in frame c of the same kernel stack.
func (n *nester) called(c int32, nd *node) bool {
	p := &n.nodes[c]
	if !sameFlow(p, nd) {
		return false
	}
	if p.entryOnly {
		// When p returned is not known: the stack pointer decides, as long
		// as the frame around p is still open.
		t := p.timed
		return nd.entryOnly && p.stack > nd.stack && (t < 0 || covers(&n.nodes[t], nd))
	}
	if p.stack == nd.stack { // a tail call, or the next call from the same place
		return covers(p, nd) && nd.enter < p.exit
	}
	return p.stack > nd.stack && covers(p, nd)
}

// interrupted returns the innermost open frame of another kernel stack on top
// of which nd ran: a soft interrupt on its own stack, with the interrupted
// thread as current. That thread cannot have run meanwhile, so covering it in
// time on its CPU is proof; a thread that waited has another id.
func (n *nester) interrupted(own *kernelStack, nd *node) int32 {
	best := int32(-1)
	for k := range n.stacks {
		s := &n.stacks[k]
		if s == own {
			continue
		}
		for c := s.top; c >= 0; c = n.nodes[c].below {
			p := &n.nodes[c]
			if p.entryOnly || p.cpu != nd.cpu || p.tid != nd.tid || !covers(p, nd) {
				continue
			}
			if best < 0 || p.enter > n.nodes[best].enter {
				best = c
			}
			break
		}
	}
	return best
}

// sameFlow says whether two frames can belong to one flow of execution: a
// thread may change its CPU between them, an interrupt (or the idle task,
// which is thread 0 on every CPU) may not.
func sameFlow(a, b *node) bool {
	return a.cpu == b.cpu || a.tid == b.tid && a.tid != 0
}

func covers(p, nd *node) bool { return p.enter <= nd.enter && nd.exit <= p.exit }

// stretch makes entry-only frames last until the end of their last child: the
// least that is certain when no return is reported.
func (n *nester) stretch() {
	for i := len(n.nodes) - 1; i >= 0; i-- {
		nd := &n.nodes[i]
		if nd.parent < 0 {
			continue
		}
		if p := &n.nodes[nd.parent]; p.entryOnly {
			p.exit = max(p.exit, nd.exit)
		}
	}
}

// sum adds up the time that each frame's children took.
func (n *nester) sum() {
	for i := range n.nodes {
		if nd := &n.nodes[i]; nd.parent >= 0 {
			n.nodes[nd.parent].children += nd.exit - nd.enter
		}
	}
}

// self is the time spent in a frame itself; 0 where it is not known.
func (nd *node) self() uint64 {
	d := nd.exit - nd.enter
	if nd.entryOnly || nd.children > d {
		return 0
	}
	return d - nd.children
}
