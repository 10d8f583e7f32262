package blockio

import (
	"cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// The defaults of Options.
const (
	DefaultIdleNs  = 60_000_000_000
	DefaultMaxHeld = 1 << 17
)

// Options bounds what a Tracker waits for and holds. A zero member means its
// default.
type Options struct {
	// IdleNs is how long records are held for a request or bio of which nothing
	// more comes.
	IdleNs uint64 `json:"idle_ns"`
	// MaxHeld is how many records may be held: it bounds the memory.
	MaxHeld int `json:"max_held"`
}

func (o Options) withDefaults() Options {
	o.IdleNs = cmp.Or(o.IdleNs, DefaultIdleNs)
	o.MaxHeld = cmp.Or(max(o.MaxHeld, 0), DefaultMaxHeld)
	return o
}

// Stats counts what a Tracker saw. Every record that was added was emitted, is
// held, or is stranded: Records = EmittedRecords + HeldRecords + Stranded, and
// of requests and bios alone Requests = EmittedRequests + Held.
type Stats struct {
	Records         uint64 // records of the block layer added
	Requests        uint64 // requests and bios among them
	Emitted         uint64 // topmost requests and bios emitted: one trace each
	EmittedRequests uint64 // requests and bios emitted, those below others included
	EmittedRecords  uint64 // EmittedRequests with their merges and requeues
	Held            uint64 // requests and bios held now
	HeldRecords     uint64 // Held with the merges and requeues that are held
	Orphans         uint64 // emitted whose Parent's record never came, or came before
	Unfinished      uint64 // requests and bios emitted that were Unfinished
	Evicted         uint64 // topmost requests and bios emitted early, by MaxHeld
	Late            uint64 // Orphans whose Parent had been emitted
	Stranded        uint64 // merges and requeues whose request never came
}

// recentSize is how many emitted ids are remembered, at most one per remainder.
const recentSize = 1 << 10

// Tracker joins events of the block layer into requests and emits each topmost
// one when all that belongs to it has come. It has no clock of its own: the
// events and Advance move it, so that the same calls give the same requests. It
// is not safe for concurrent use.
type Tracker struct {
	opts  Options
	emit  func(*Request)
	stats Stats

	// groups holds, by the id of a request or bio, what waits for it.
	groups map[uint64]*group
	list   list // the groups, by the time of their last record
	plain  Request
	recent [recentSize]uint64 // ids emitted lately that may have more children

	free       []*Request // memory for requests to come
	freeGroups []*group

	nowMonoNs uint64
}

// NewTracker makes a Tracker that hands each topmost request or bio to emit
// once. emit runs within the Tracker's methods, must not call them, and must
// copy what it keeps.
func NewTracker(o Options, emit func(*Request)) *Tracker {
	return &Tracker{opts: o.withDefaults(), emit: emit, groups: make(map[uint64]*group)}
}

// Stats gives the counters.
func (t *Tracker) Stats() Stats {
	s := t.stats
	s.Held = s.Requests - s.EmittedRequests
	s.HeldRecords = uint64(t.held())
	return s
}

// held is how many records are held.
func (t *Tracker) held() int {
	return int(t.stats.Records - t.stats.EmittedRecords - t.stats.Stranded)
}

// Add takes one event, in the order of the ring buffer. It emits what is
// complete by it, and what must make room. An event of another kind than those
// of the block layer is ignored.
func (t *Tracker) Add(ev *event.Event) {
	b := &ev.Block
	switch ev.Kind {
	case event.KindRequest, event.KindBio:
		t.see(b)
		t.stats.Requests++
		t.addRequest(b, ev.Kind == event.KindBio)
	case event.KindMerge:
		t.see(b)
		r := t.hold(b.ID).req
		r.Merges = append(r.Merges, *b)
	case event.KindRequeue:
		t.see(b)
		r := t.hold(b.ID).req
		r.Requeues = append(r.Requeues, *b)
	default:
		return
	}
	for t.held() > t.opts.MaxHeld {
		t.evict(t.list.front)
	}
}

// see counts a record and learns the time from it.
func (t *Tracker) see(b *event.Block) {
	t.stats.Records++
	t.nowMonoNs = max(t.nowMonoNs, b.CompleteMonoNs, b.IssueMonoNs, b.InsertMonoNs, b.SubmitMonoNs)
}

// Advance tells the time and gives up what has waited long enough. nowMonoNs is
// the CLOCK_MONOTONIC up to which the ring has been read. A time before one that
// is known already changes nothing.
func (t *Tracker) Advance(nowMonoNs uint64) {
	t.nowMonoNs = max(t.nowMonoNs, nowMonoNs)
	for g := t.list.front; g != nil && t.nowMonoNs-g.lastMonoNs >= t.opts.IdleNs; g = t.list.front {
		t.giveUp(g)
	}
}

// CloseAll emits all that is held, as the program is to exit. What is still
// under way counts as unfinished at nowMonoNs (CLOCK_MONOTONIC).
func (t *Tracker) CloseAll(nowMonoNs uint64) {
	t.nowMonoNs = max(t.nowMonoNs, nowMonoNs)
	for g := t.list.front; g != nil; g = g.next {
		if g.known {
			t.unfinished(g.req)
		}
	}
	for g := t.list.front; g != nil; g = g.next {
		if !g.known || g.req.Parent == 0 {
			continue
		}
		if p := t.groups[g.req.Parent]; p != nil && t.hasRoot(g) {
			p.req.Children = append(p.req.Children, g.req)
			g.nested = true
		}
	}
	for g := t.list.front; g != nil; g = t.list.front {
		t.closeGroup(g)
	}
}

// addRequest takes the record of a request or bio, with what is held for it.
func (t *Tracker) addRequest(b *event.Block, bio bool) {
	var g *group
	if len(t.groups) > 0 {
		g = t.groups[b.ID]
	}
	if g != nil && g.known {
		g = nil // an id that comes twice: the first has what was held
	}
	if g == nil && b.Parent == 0 && b.CompleteMonoNs != 0 {
		t.plain = Request{Block: *b, Bio: bio}
		t.emitRoot(&t.plain)
		return
	}
	if b.CompleteMonoNs == 0 {
		t.wait(g, b, bio)
		return
	}
	var r *Request
	if g != nil {
		r = g.req
		t.drop(g)
	} else {
		r = t.take()
	}
	r.Block, r.Bio = *b, bio
	t.settle(r)
}

// wait holds a request or bio whose end is not known by its own record.
func (t *Tracker) wait(g *group, b *event.Block, bio bool) {
	if old := t.groups[b.ID]; g == nil && old != nil {
		r := t.take() // an id that comes twice
		r.Block, r.Bio = *b, bio
		t.unfinished(r)
		t.settle(r)
		return
	}
	g = t.hold(b.ID)
	g.known = true
	g.req.Block, g.req.Bio = *b, bio
	for _, c := range g.req.Children {
		if bio && c.Flags&event.BlockEndsParent != 0 {
			t.end(g, c)
			return
		}
	}
}

// settle emits a request that is complete, or holds it for its parent.
func (t *Tracker) settle(r *Request) {
	if r.Parent != 0 && t.recent[r.Parent%recentSize] == r.Parent {
		t.stats.Late++
		r.Orphan = true
	}
	if r.Parent == 0 || r.Orphan {
		t.emitRoot(r)
		t.giveBack(r)
		return
	}
	p := t.hold(r.Parent)
	p.req.Children = append(p.req.Children, r)
	if p.known && p.req.Bio && r.Flags&event.BlockEndsParent != 0 {
		t.end(p, r)
	}
}

// end completes a bio that was handed on as it is: the child that it became has
// completed.
func (t *Tracker) end(g *group, by *Request) {
	r := g.req
	t.drop(g)
	r.CompleteMonoNs, r.CPU, r.Unfinished = by.CompleteMonoNs, by.CPU, by.Unfinished
	done := uint64(0)
	for _, c := range r.Children {
		done += uint64(c.Done)
		if r.Status == 0 && c.Status != 0 {
			r.Status = c.Status
			r.Flags = r.Flags&^event.BlockErrno | c.Flags&event.BlockErrno
		}
	}
	r.Done = uint32(min(done, 1<<32-1))
	t.settle(r)
}

// unfinished marks a request whose end was not seen.
func (t *Tracker) unfinished(r *Request) {
	r.Unfinished = true
	r.CompleteMonoNs = t.nowMonoNs
}

// giveUp ends the wait of a group: its request as it is, when its record came,
// else each of the children as a root of its own.
func (t *Tracker) giveUp(g *group) {
	if !g.known {
		t.closeGroup(g)
		return
	}
	r := g.req
	t.unfinished(r)
	t.drop(g)
	t.settle(r)
}

// evict emits what a group holds, to make room.
func (t *Tracker) evict(g *group) {
	before := t.stats.Emitted
	if g.known {
		t.unfinished(g.req)
	}
	t.closeGroup(g)
	t.stats.Evicted += t.stats.Emitted - before
}

// closeGroup emits what a group holds, whether or not a parent is awaited.
func (t *Tracker) closeGroup(g *group) {
	r, known, nested := g.req, g.known, g.nested
	t.drop(g)
	switch {
	case nested:
		return // it goes with its parent
	case known:
		r.Orphan = r.Parent != 0
		t.emitRoot(r)
	default:
		t.stats.Stranded += uint64(len(r.Merges) + len(r.Requeues))
		for _, c := range r.Children {
			c.Orphan = true
			t.emitRoot(c)
		}
	}
	t.giveBack(r)
}

// emitRoot emits a topmost request. Its memory stays the caller's.
func (t *Tracker) emitRoot(r *Request) {
	t.count(r)
	t.stats.Emitted++
	if r.Orphan {
		t.stats.Orphans++
	}
	t.emit(r)
}

// count counts and puts in order a request that is to be emitted, and all below
// it.
func (t *Tracker) count(r *Request) {
	s := &t.stats
	s.EmittedRequests++
	s.EmittedRecords += 1 + uint64(len(r.Merges)+len(r.Requeues))
	if r.Unfinished {
		s.Unfinished++
	}
	if r.Bio || len(r.Children) > 0 {
		t.recent[r.ID%recentSize] = r.ID
	}
	r.sort()
	for _, c := range r.Children {
		t.count(c)
	}
}
