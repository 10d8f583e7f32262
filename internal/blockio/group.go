package blockio

import (
	"cmp"
	"slices"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// group is what waits for a request or bio: what came before its record, and
// that itself when its end is still to come.
type group struct {
	id         uint64
	req        *Request // what is held so far; Block is set when known
	known      bool     // the record has come, its end has not
	nested     bool     // req is among its parent's Children
	lastMonoNs uint64
	prev, next *group
}

// list is a doubly linked list of groups.
type list struct{ front, back *group }

func (l *list) pushBack(g *group) {
	g.prev, g.next = l.back, nil
	if l.back != nil {
		l.back.next = g
	} else {
		l.front = g
	}
	l.back = g
}

func (l *list) remove(g *group) {
	if g.prev != nil {
		g.prev.next = g.next
	} else {
		l.front = g.next
	}
	if g.next != nil {
		g.next.prev = g.prev
	} else {
		l.back = g.prev
	}
	g.prev, g.next = nil, nil
}

// hold gives the group of an id and notes that it had a record.
func (t *Tracker) hold(id uint64) *group {
	g := t.groups[id]
	if g == nil {
		g = t.takeGroup()
		g.id, g.req = id, t.take()
		t.groups[id] = g
	} else {
		t.list.remove(g)
	}
	g.lastMonoNs = t.nowMonoNs
	t.list.pushBack(g)
	return g
}

// drop ends a group. Its request is the caller's.
func (t *Tracker) drop(g *group) {
	t.list.remove(g)
	delete(t.groups, g.id)
	*g = group{}
	if len(t.freeGroups) < maxFree {
		t.freeGroups = append(t.freeGroups, g)
	}
}

// maxDepth is how many requests that wait may hang below each other at the end.
// The kernel stacks a handful of devices; more is damaged input, which could
// even go round in a circle.
const maxDepth = 64

// hasRoot says whether the way up from a group, from one that waits to the next,
// ends.
func (t *Tracker) hasRoot(g *group) bool {
	for range maxDepth {
		g = t.groups[g.req.Parent]
		if g == nil || !g.known {
			return true
		}
	}
	return false
}

// maxFree is how many requests and groups are kept for later, and maxFreeRoom
// for how many merges, requeues and children one of them may have room.
const (
	maxFree     = 1 << 10
	maxFreeRoom = 256
)

// take gives memory for a request, what giveBack got last if there is any.
func (t *Tracker) take() *Request {
	n := len(t.free)
	if n == 0 {
		return &Request{}
	}
	r := t.free[n-1]
	t.free[n-1], t.free = nil, t.free[:n-1]
	return r
}

func (t *Tracker) takeGroup() *group {
	n := len(t.freeGroups)
	if n == 0 {
		return &group{}
	}
	g := t.freeGroups[n-1]
	t.freeGroups[n-1], t.freeGroups = nil, t.freeGroups[:n-1]
	return g
}

// giveBack keeps the memory of an emitted request, and of all below it, for
// later ones.
func (t *Tracker) giveBack(r *Request) {
	for i, c := range r.Children {
		t.giveBack(c)
		r.Children[i] = nil
	}
	if len(t.free) >= maxFree || cap(r.Merges)+cap(r.Requeues)+cap(r.Children) > maxFreeRoom {
		return
	}
	*r = Request{Merges: r.Merges[:0], Requeues: r.Requeues[:0], Children: r.Children[:0]}
	t.free = append(t.free, r)
}

// sort puts the requeues and children in the order of time.
func (r *Request) sort() {
	if len(r.Requeues) > 1 {
		slices.SortStableFunc(r.Requeues, func(a, b event.Block) int {
			return cmp.Compare(a.CompleteMonoNs, b.CompleteMonoNs)
		})
	}
	if len(r.Children) > 1 {
		slices.SortStableFunc(r.Children, func(a, b *Request) int {
			return cmp.Compare(a.StartMonoNs(), b.StartMonoNs())
		})
	}
}
