package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
)

const (
	// pollEvery is how long a record may lie in the ring before it is read: the
	// kernel wakes the reader only when much is unread.
	pollEvery = 10 * time.Millisecond
	// evictEvery and idleAfter bound how long an skb is followed of which
	// nothing is seen any more (it sits in a queue that nobody reads).
	evictEvery = 10 * time.Second
	idleAfter  = 2 * time.Minute
	// recordsPerLook is how many records are read between two looks at the clock.
	recordsPerLook = 1024
)

// ringReader is what capture needs of a *ringbuf.Reader.
type ringReader interface {
	SetDeadline(t time.Time)
	ReadInto(record *ringbuf.Record) error
	AvailableBytes() int
}

// idleEvicter is what capture needs of *bpf.Objects.
type idleEvicter interface {
	EvictIdle(beforeMonoNs uint64) (evicted int, err error)
}

// capture reads the ring buffer into a pipeline.
type capture struct {
	objects  idleEvicter // nil: there is nothing to evict
	reader   ringReader
	pipeline *pipeline
	recorder *recording.Writer // nil without --record
	monoNs   func() uint64     // CLOCK_MONOTONIC of the kernel
	// look is called every few milliseconds while nothing else runs; nil is
	// allowed.
	look    func() error
	evicted uint64
	// presentMonoNs is the time up to which the ring has been read.
	presentMonoNs uint64
	record        ringbuf.Record
}

// run reads until ctx is done or the limit of traces is reached.
func (c *capture) run(ctx context.Context) error {
	nextEviction := time.Now().Add(evictEvery)
	for ctx.Err() == nil && !c.pipeline.reached() {
		empty, err := c.read(time.Now().Add(pollEvery))
		if err != nil {
			return err
		}
		c.tick(empty)
		if c.look != nil {
			if err := c.look(); err != nil {
				return err
			}
		}
		if now := time.Now(); now.After(nextEviction) {
			nextEviction = now.Add(evictEvery)
			if err := c.evict(); err != nil {
				return err
			}
		}
	}
	return nil
}

// read takes records until there are none and the deadline has passed (then
// empty is true), or until it is time to look at the clock.
func (c *capture) read(deadline time.Time) (empty bool, err error) {
	c.reader.SetDeadline(deadline)
	for i := 0; i < recordsPerLook && !c.pipeline.reached(); i++ {
		err := c.reader.ReadInto(&c.record)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the ring buffer: %w", err)
		}
		c.take(c.record.RawSample)
	}
	return false, nil
}

// take gives one record to the recording and to the pipeline: to the recording first,
// since the pipeline may record names that the record brings up. But of a payload
// nothing is recorded that the pipeline has not gone over.
func (c *capture) take(raw []byte) {
	payload := bpf.PayloadData(raw) != nil
	if payload {
		c.pipeline.record(raw)
	}
	if c.recorder != nil {
		_ = c.recorder.Record(raw) // it keeps its error for Close
	}
	if !payload {
		c.pipeline.record(raw)
	}
}

// drain reads what is still in the ring after the probes were detached.
func (c *capture) drain() error {
	for c.reader.AvailableBytes() > 0 && !c.pipeline.reached() {
		if _, err := c.read(time.Now().Add(pollEvery)); err != nil {
			return err
		}
	}
	return nil
}

// tick lets the tracker close what has waited long enough. While records wait
// in the ring the present is the time of the last one read: what the others say
// has not been heard yet.
func (c *capture) tick(empty bool) {
	now := c.pipeline.lastMonoNs
	if empty {
		now = c.monoNs()
	}
	if c.recorder != nil {
		_ = c.recorder.Tick(now) // it keeps its error for Close
	}
	c.presentMonoNs = now
	c.pipeline.advance(now)
}

// closeAll ends every journey and request that is still open, as unfinished.
func (c *capture) closeAll() {
	now := c.monoNs()
	if c.recorder != nil {
		_ = c.recorder.CloseAll(now) // it keeps its error for Close
	}
	c.pipeline.closeAll(now)
}

// evict stops following idle skbs. A kernel that runs for less than idleAfter
// has none.
func (c *capture) evict() error {
	now := c.monoNs()
	if c.objects == nil || now <= uint64(idleAfter) {
		return nil
	}
	count, err := c.objects.EvictIdle(now - uint64(idleAfter))
	c.evicted += uint64(count)
	return err
}
