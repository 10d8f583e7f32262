package export

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/otel-kprobe/otel-kprobe/spans"
)

// abandonAfter is how long Shutdown waits for sends to notice that their
// context is over.
const abandonAfter = 500 * time.Millisecond

// pipelineOptions configure a pipeline.
type pipelineOptions struct {
	workers       int
	maxQueueSpans int
	maxQueueBytes int
	flushEvery    time.Duration
	wait          bool // for room in the queue, instead of dropping
	log           *slog.Logger
	fullMessage   string // says that the queue is full
	failMessage   string // says that sending fails
	// prepare begins a batch in a buffer whose old content is given up.
	prepare func(buf []byte) []byte
	// send carries a batch away. It may grow b.buf, and keeps nothing of b.
	send func(ctx context.Context, b *batch) result
}

// batch is encoded spans on their way.
type batch struct {
	buf    []byte
	spans  int
	traces []traceEnd
	layers []spans.LayerEnd // of an exporter whose envelope is layered
}

// traceEnd says where in a batch a trace ends, for a send that may write a
// part of a batch.
type traceEnd struct{ offset, spans int }

// result says what became of a batch's spans; err says why not all were
// exported.
type result struct {
	exported, rejected, failed int
	bytes                      int
	err                        error
}

// pipeline gathers encoded spans into batches, keeps a bounded queue of them
// and lets workers send them.
type pipeline struct {
	o      pipelineOptions
	mu     sync.Mutex
	work   sync.Cond // there is a batch, or the end
	room   sync.Cond // a batch left the queue
	cur    *batch
	queue  []*batch
	free   []*batch
	stats  Stats
	spans  int // queued
	bytes  int // queued
	flying int // spans being sent
	busy   int // workers sending
	ending bool
	lost   bool // Shutdown has booked what is being sent

	warnFull, warnFail limiter
	ctx                context.Context
	cancel             context.CancelFunc
	workers            sync.WaitGroup
}

func startPipeline(o pipelineOptions) *pipeline {
	p := &pipeline{o: o}
	p.work.L, p.room.L = &p.mu, &p.mu
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.workers.Add(o.workers + 1)
	for range o.workers {
		go p.run()
	}
	go p.flushRegularly()
	return p
}

// current returns the batch that takes the next spans. Needs mu.
func (p *pipeline) current() *batch {
	if p.cur == nil {
		if n := len(p.free); n > 0 {
			p.cur, p.free = p.free[n-1], p.free[:n-1]
		} else {
			p.cur = &batch{}
		}
		p.cur.buf, p.cur.spans, p.cur.traces = p.o.prepare(p.cur.buf), 0, p.cur.traces[:0]
		p.cur.layers = p.cur.layers[:0]
	}
	return p.cur
}

// enqueue closes the current batch: into the queue, or, when that is full,
// away. Needs mu.
func (p *pipeline) enqueue() {
	b := p.cur
	p.cur = nil
	if b == nil || b.spans == 0 {
		p.recycle(b)
		return
	}
	for p.o.wait && p.full(b) && !p.ending {
		p.room.Wait()
	}
	if p.full(b) && !p.ending {
		p.stats.Dropped += uint64(b.spans)
		p.warnFull.warn(p.o.log, p.o.fullMessage, b.spans, nil)
		p.recycle(b)
		return
	}
	p.queue = append(p.queue, b)
	p.spans += b.spans
	p.bytes += len(b.buf)
	p.work.Signal()
}

// full says whether the queue has no room for a batch. An empty one has.
func (p *pipeline) full(b *batch) bool {
	return len(p.queue) > 0 &&
		(p.spans+b.spans > p.o.maxQueueSpans || p.bytes+len(b.buf) > p.o.maxQueueBytes)
}

// recycle keeps a few buffers for later batches. Needs mu.
func (p *pipeline) recycle(b *batch) {
	if b != nil && len(p.free) < p.o.workers+2 {
		p.free = append(p.free, b)
	}
}

// run sends batches until the end.
func (p *pipeline) run() {
	defer p.workers.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.queue) == 0 && !p.ending {
			p.work.Wait()
		}
		if len(p.queue) == 0 {
			return
		}
		b := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.spans -= b.spans
		p.bytes -= len(b.buf)
		p.flying += b.spans
		p.busy++
		p.room.Signal()
		p.mu.Unlock()
		r := p.o.send(p.ctx, b)
		p.mu.Lock()
		p.busy--
		p.flying -= b.spans
		p.count(b, r)
		p.recycle(b)
		if p.ending {
			p.room.Broadcast() // drain waits for the last one
		}
	}
}

// count books the result of a send. Needs mu.
func (p *pipeline) count(b *batch, r result) {
	if p.lost {
		return // Shutdown has booked it
	}
	p.stats.Batches++
	p.stats.Bytes += uint64(r.bytes)
	p.stats.Exported += uint64(r.exported)
	p.stats.Rejected += uint64(r.rejected)
	p.stats.Failed += uint64(r.failed)
	if r.rejected > 0 {
		p.warnFail.warn(p.o.log, "receiver rejects spans", r.rejected, r.err)
	} else if r.failed > 0 || r.err != nil {
		p.warnFail.warn(p.o.log, p.o.failMessage, r.failed, r.err)
	}
}

// flushRegularly closes batches that wait for more spans. While every worker
// is busy there is no hurry: the batch may grow.
func (p *pipeline) flushRegularly() {
	defer p.workers.Done()
	tick := time.NewTicker(p.o.flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		if len(p.queue) == 0 && p.busy < p.o.workers {
			p.enqueue()
		}
		p.mu.Unlock()
	}
}

// shutdown sends what is left until ctx is over, and counts the rest.
func (p *pipeline) shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.ending = true
	p.enqueue()
	lost := p.stats.Lost()
	p.mu.Unlock()
	p.work.Broadcast()
	p.room.Broadcast()

	stopped := make(chan struct{})
	go func() {
		p.drain()
		p.cancel()
		p.workers.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
	}
	p.abandon(stopped)
	if n := p.snapshot().Lost() - lost; n > 0 {
		return fmt.Errorf("flush spans: %d lost because the time was over: %w", n, context.Cause(ctx))
	}
	return nil
}

// drain waits until nothing is queued or being sent.
func (p *pipeline) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 || p.busy > 0 {
		p.room.Wait()
	}
}

// abandon gives up the queue and, when they do not return soon, the sends.
func (p *pipeline) abandon(stopped <-chan struct{}) {
	p.mu.Lock()
	p.stats.Unsent += uint64(p.spans)
	p.queue, p.spans, p.bytes = nil, 0, 0
	p.mu.Unlock()
	p.cancel()
	p.room.Broadcast()
	select {
	case <-stopped:
		return
	case <-time.After(abandonAfter):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
	p.stats.Unsent += uint64(p.flying)
}

// export counts a trace and lets encode append it. Calls of encode hold mu.
func (p *pipeline) export(t *spans.Trace, encode func(*spans.Trace)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Traces++
	p.stats.Spans += uint64(len(t.Spans))
	if p.ending {
		p.stats.Unsent += uint64(len(t.Spans))
		return
	}
	encode(t)
}

func (p *pipeline) snapshot() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
