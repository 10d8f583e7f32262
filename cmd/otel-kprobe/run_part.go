package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
)

const (
	// countEvery is how often a part's counters are read for metrics.
	countEvery = 2 * time.Second
	// settledEvery is how often a part that is replaced looks whether it can end.
	settledEvery = 100 * time.Millisecond
	// handOverWait is how long after a change of the filter the new one begins, so
	// that both sets of programs know of it.
	handOverWait = 500 * time.Millisecond
	// handOverWithin bounds how long what began under the old filter is followed.
	handOverWithin = 10 * time.Second
)

// sectionRun is a packetsRun or a blockRun.
type sectionRun interface {
	// begin attaches. After an error nothing is left of the run.
	begin(ctx context.Context) error
	// follow traces until ctx is done or something fails.
	follow(ctx context.Context) error
	// finish detaches and reports; err is what follow gave.
	finish(err error) error
	// undo releases a run that has begun and will not follow.
	undo()
	// beginShift leaves what has begun before, and what begins within wait, to
	// another run, and gives the moment; follow has not been called.
	beginShift(wait time.Duration) (fromMonoNs uint64)

	// The others are called between looks at the ring.

	// soFar is the summary while it traces.
	soFar() export.Summary
	// judgeBy changes which traces are exported.
	judgeBy(only onlyRules)
	// endShift leaves what begins from untilMonoNs on to another run.
	endShift(untilMonoNs uint64)
	// settledBefore says whether all that began before has been exported.
	settledBefore(monoNs uint64) bool
}

// part is a section of a service at work: packets or block. With a reload a part
// of the same section may take its place.
type part struct {
	section string
	run     sectionRun
	cancel  context.CancelFunc
	ended   chan<- *part // it says so itself
	orders  chan func()  // what is done between two looks at the ring
	counts  schedule
	live    atomic.Pointer[export.Summary]

	// Of a part that another one replaces: set by an order.
	untilMonoNs uint64
	settledFrom time.Time // before that some of it may still lie in the ring
	giveUpAt    time.Time
	checks      schedule

	// Valid once it has ended.
	err     error
	summary export.Summary
}

// start lets a part trace whose run has begun.
func (p *part) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	go func() {
		defer p.cancel()
		p.err = p.run.finish(p.run.follow(ctx))
		p.ended <- p
	}()
}

// beside is a shared's.
func (p *part) beside() error {
	select {
	case order := <-p.orders:
		order()
	default:
	}
	now := time.Now()
	if p.counts.due(now) {
		summary := p.run.soFar()
		p.live.Store(&summary)
	}
	if p.untilMonoNs == 0 || !p.checks.due(now) {
		return nil
	}
	settled := now.After(p.settledFrom) && p.run.settledBefore(p.untilMonoNs)
	if settled || now.After(p.giveUpAt) {
		p.cancel()
	}
	return nil
}

// order lets f run between two looks at the ring. A part that takes no orders any
// more has ended.
func (p *part) order(f func()) {
	select {
	case p.orders <- f:
	default:
	}
}

// retire lets another part take over what begins from untilMonoNs on. This one
// ends when all that began before is complete, or its patience is over.
func (p *part) retire(untilMonoNs uint64) {
	p.order(func() {
		p.run.endShift(untilMonoNs)
		p.untilMonoNs = untilMonoNs
		p.settledFrom = time.Now().Add(2 * handOverWait)
		p.giveUpAt = time.Now().Add(handOverWithin)
	})
}

// follow implements sectionRun.
func (r *packetsRun) follow(ctx context.Context) error { return r.trace(ctx) }

// undo implements sectionRun.
func (r *packetsRun) undo() {
	r.halt()
	r.abort()
}

// undo implements sectionRun.
func (r *blockRun) undo() {
	r.halt()
	r.abort()
}

// judgeBy implements sectionRun.
func (s *session) judgeBy(only onlyRules) { s.pipeline.only.onlyRules = only }

// beginShift implements sectionRun.
func (s *session) beginShift(wait time.Duration) (fromMonoNs uint64) {
	s.pipeline.shift.fromMonoNs = s.clock.MonoNs() + uint64(wait)
	return s.pipeline.shift.fromMonoNs
}

// endShift implements sectionRun.
func (s *session) endShift(untilMonoNs uint64) { s.pipeline.shift.untilMonoNs = untilMonoNs }

// settledBefore implements sectionRun.
func (s *session) settledBefore(monoNs uint64) bool { return s.pipeline.tracker.SettledBefore(monoNs) }

// halt ends what accompanies a session.
func (s *session) halt() {
	s.stop()
	s.background.Wait()
}

// soFar implements sectionRun.
func (r *packetsRun) soFar() export.Summary {
	missed := r.kernel.attachment.Missed()
	if more, err := r.programs.misses(); err == nil { // finish says it
		missed += more
	}
	return r.counted(missed)
}

// soFar implements sectionRun.
func (r *blockRun) soFar() export.Summary { return r.summary(0) }
