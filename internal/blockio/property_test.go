package blockio

import (
	"math/rand/v2"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// simNode is a request or bio of a simulated kernel.
type simNode struct {
	id       uint64
	parent   *simNode
	children []*simNode
	bio      bool
	handedOn bool // its last child ends it
	lost     bool // its record never comes
	running  bool // under way at the end
	merges   int
	requeues int
	start    uint64
	end      uint64
}

// simulator makes random trees and their records in an order that is legal.
type simulator struct {
	r     *rand.Rand
	nodes []*simNode // a parent before its children
	out   []event.Event
	last  []event.Event // what comes just before the end
}

func simulate(seed uint64, roots int) *simulator {
	s := &simulator{r: rand.New(rand.NewPCG(seed, 1))}
	for range roots {
		start := 1000 + s.r.Uint64N(100_000)
		s.tree(nil, start, start+1000+s.r.Uint64N(10_000), 0)
	}
	s.records()
	return s
}

// tree adds a node and those below it, within the time of the node above.
func (s *simulator) tree(parent *simNode, start, end uint64, depth int) *simNode {
	n := &simNode{id: uint64(len(s.nodes) + 1), parent: parent, start: start, end: end}
	s.nodes = append(s.nodes, n)
	n.merges, n.requeues = s.r.IntN(3)/2*s.r.IntN(3), s.r.IntN(5)/4
	n.lost = s.r.IntN(12) == 0
	children := 0
	if depth < 5 && s.r.IntN(3) > 0 && end-start > 10 {
		children = 1 + s.r.IntN(3)
	}
	n.bio = s.r.IntN(2) == 0
	n.handedOn = n.bio && children > 0 && s.r.IntN(2) == 0
	n.running = !n.handedOn && !n.lost && s.r.IntN(10) == 0 && (parent == nil || parent.running)
	for i := range children {
		from := start + s.r.Uint64N((end-start)/2)
		to := from + 1 + s.r.Uint64N(end-from)
		if n.handedOn && i == children-1 {
			to = end
		}
		n.children = append(n.children, s.tree(n, from, min(to, end), depth+1))
	}
	if n.handedOn && n.children[children-1].lost {
		n.children[children-1].lost = false
	}
	return n
}

func (s *simulator) block(n *simNode) event.Event {
	b := event.Block{ID: n.id, SubmitMonoNs: n.start, CompleteMonoNs: n.end, Bytes: 512, Done: 512}
	if n.parent != nil {
		b.Parent = n.parent.id
		if c := n.parent.children; n.parent.handedOn && c[len(c)-1] == n {
			b.Flags = event.BlockEndsParent
		}
	}
	if n.handedOn || n.running {
		b.CompleteMonoNs = 0
	}
	kind := event.KindRequest
	if n.bio {
		kind = event.KindBio
	} else {
		b.IssueMonoNs = n.start
	}
	return event.Event{Kind: kind, Block: b}
}

// records puts the records of all trees in one order: what belongs to a request
// before it, children before parents, the child that ends a bio after its
// siblings.
func (s *simulator) records() {
	waits := map[*simNode]int{}
	var ready []*simNode
	for _, n := range s.nodes {
		waits[n] = len(n.children)
		if len(n.children) == 0 {
			ready = append(ready, n)
		}
	}
	held := map[*simNode]*simNode{} // enders that wait for their siblings
	for len(ready) > 0 {
		i := s.r.IntN(len(ready))
		n := ready[i]
		ready = append(ready[:i], ready[i+1:]...)
		if p := n.parent; p != nil && p.handedOn && p.children[len(p.children)-1] == n && waits[p] > 1 {
			held[p] = n
			continue
		}
		s.write(n)
		p := n.parent
		if p == nil {
			continue
		}
		waits[p]--
		if waits[p] == 0 {
			ready = append(ready, p)
		} else if waits[p] == 1 && held[p] != nil {
			ready = append(ready, held[p])
		}
	}
	s.out = append(s.out, s.last...)
}

func (s *simulator) write(n *simNode) {
	for range n.merges {
		s.out = append(s.out, event.Event{Kind: event.KindMerge, Block: event.Block{ID: n.id, Flags: event.BlockMerged}})
	}
	for range n.requeues {
		s.out = append(s.out, event.Event{Kind: event.KindRequeue, Block: event.Block{ID: n.id, IssueMonoNs: n.start, CompleteMonoNs: n.start + 1}})
	}
	switch {
	case n.lost:
	case n.running:
		s.last = append(s.last, s.block(n))
	default:
		s.out = append(s.out, s.block(n))
	}
}

// checker holds what was emitted against what the simulator did.
type checker struct {
	t    *testing.T
	s    *simulator
	seen map[uint64]bool
}

func (c *checker) tree(r *Request, parent *Request) {
	if c.seen[r.ID] {
		c.t.Fatalf("request %d was emitted twice", r.ID)
	}
	c.seen[r.ID] = true
	n := c.s.nodes[r.ID-1]
	switch {
	case parent == nil && r.Orphan != (n.parent != nil):
		c.t.Errorf("root %d: orphan is %v", r.ID, r.Orphan)
	case parent == nil && r.Orphan && !n.parent.lost:
		c.t.Errorf("root %d is an orphan, its parent's record came", r.ID)
	case parent != nil && (n.parent == nil || n.parent.id != parent.ID):
		c.t.Errorf("request %d is below %d", r.ID, parent.ID)
	}
	if len(r.Merges) != n.merges || len(r.Requeues) != n.requeues || r.Bio != n.bio {
		c.t.Errorf("request %d: %d merges, %d requeues, bio %v, want %+v", r.ID, len(r.Merges), len(r.Requeues), r.Bio, n)
	}
	if !r.Unfinished && !n.running && r.CompleteMonoNs != n.end {
		c.t.Errorf("request %d completed at %d, want %d", r.ID, r.CompleteMonoNs, n.end)
	}
	if parent != nil && (r.StartMonoNs() < parent.StartMonoNs() || r.CompleteMonoNs > parent.CompleteMonoNs) {
		c.t.Errorf("request %d sticks out of %d", r.ID, parent.ID)
	}
	for i, k := range r.Children {
		if i > 0 && k.StartMonoNs() < r.Children[i-1].StartMonoNs() {
			c.t.Errorf("children of %d are out of order", r.ID)
		}
		c.tree(k, r)
	}
}

func TestRandomTrees(t *testing.T) {
	for seed := range uint64(300) {
		s := simulate(seed, 12)
		c := &checker{t: t, s: s, seen: map[uint64]bool{}}
		tr := NewTracker(Options{}, func(r *Request) { c.tree(r, nil) })
		for i := range s.out {
			tr.Add(&s.out[i])
			checkSums(t, tr)
		}
		tr.CloseAll(1_000_000)
		checkSums(t, tr)
		if st := tr.Stats(); st.Held != 0 || st.HeldRecords != 0 || tr.list.front != nil || len(tr.groups) != 0 {
			t.Errorf("seed %d: held after the end: %+v", seed, st)
		}
		for _, n := range s.nodes {
			if c.seen[n.id] == n.lost {
				t.Errorf("seed %d: request %d emitted: %v, its record lost: %v", seed, n.id, c.seen[n.id], n.lost)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// held counts what a Tracker holds by walking through it.
func held(t *Tracker) (requests, records uint64) {
	var walk func(r *Request)
	walk = func(r *Request) {
		records += uint64(len(r.Merges) + len(r.Requeues))
		for _, c := range r.Children {
			requests, records = requests+1, records+1
			walk(c)
		}
	}
	for _, g := range t.groups {
		if g.known {
			requests, records = requests+1, records+1
		}
		walk(g.req)
	}
	return requests, records
}

func checkSums(t *testing.T, tr *Tracker) {
	t.Helper()
	s := tr.Stats()
	requests, records := held(tr)
	if s.Held != requests || s.Requests != s.EmittedRequests+requests {
		t.Fatalf("%d requests are held: %+v", requests, s)
	}
	if s.HeldRecords != records || s.Records != s.EmittedRecords+records+s.Stranded {
		t.Fatalf("%d records are held: %+v", records, s)
	}
}

// TestRandomTreesInLittleMemory has every tree broken by a bound of a few
// records: still nothing is lost or doubled.
func TestRandomTreesInLittleMemory(t *testing.T) {
	for seed := range uint64(100) {
		s := simulate(seed, 12)
		seen := map[uint64]bool{}
		var walk func(r *Request)
		walk = func(r *Request) {
			if seen[r.ID] {
				t.Fatalf("seed %d: request %d was emitted twice", seed, r.ID)
			}
			seen[r.ID] = true
			for _, c := range r.Children {
				if c.Parent != r.ID {
					t.Errorf("request %d is below %d, its parent is %d", c.ID, r.ID, c.Parent)
				}
				walk(c)
			}
		}
		tr := NewTracker(Options{MaxHeld: 5}, func(r *Request) { walk(r) })
		for i := range s.out {
			tr.Add(&s.out[i])
			checkSums(t, tr)
			if n := tr.Stats().HeldRecords; n > 5 {
				t.Fatalf("%d records are held", n)
			}
		}
		tr.CloseAll(1_000_000)
		checkSums(t, tr)
		for _, n := range s.nodes {
			if seen[n.id] == n.lost {
				t.Errorf("seed %d: request %d emitted: %v", seed, n.id, seen[n.id])
			}
		}
	}
}

// FuzzTracker feeds records of small numbers, which meet in every illegal way.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 0x51, 0x12, 0x33, 0x24})
	f.Add([]byte{0, 1, 1, 0, 0, 1, 2, 0, 0, 2, 1, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		emitted := uint64(0)
		tr := NewTracker(Options{MaxHeld: 20, IdleNs: 50}, func(*Request) { emitted++ })
		for ; len(in) >= 4; in = in[4:] {
			ev := event.Event{Kind: event.KindRequest + event.Kind(in[0]%4)}
			ev.Block = event.Block{
				ID: uint64(in[1] % 8), Parent: uint64(in[2] % 8), SubmitMonoNs: uint64(in[3]),
				CompleteMonoNs: uint64(in[3]) * uint64(in[0]>>7), Flags: event.BlockFlags(in[0] >> 3),
			}
			tr.Add(&ev)
			checkSums(t, tr)
			if in[0]&4 != 0 {
				tr.Advance(uint64(in[3]) * 2)
				checkSums(t, tr)
			}
		}
		tr.CloseAll(1000)
		checkSums(t, tr)
		if s := tr.Stats(); s.Held != 0 || s.HeldRecords != 0 || s.Emitted != emitted {
			t.Errorf("%d emitted: %+v", emitted, s)
		}
	})
}
