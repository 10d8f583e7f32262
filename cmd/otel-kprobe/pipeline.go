package main

import (
	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// pipeline turns records into traces and hands them to the exporters. Live
// tracing and replay use the same one, so that both give the same spans. It is
// not safe for concurrent use.
type pipeline struct {
	tracker   *journey.Tracker
	builder   *spans.Builder
	blocks    *blockio.Tracker
	requests  *spans.RequestBuilder
	exporters []namedExporter
	// observe is told of each request before it is exported, with its trace, and
	// whether that is going to be; nil is allowed.
	observe func(r *blockio.Request, t *spans.Trace, exported bool)
	event   event.Event
	only    onlyRules
	limit   uint64 // traces after which reached() is true; 0: none
	traces  uint64
	spans   uint64
	waits   uint64 // spans among them
	// passedOver counts traces that only does not want, and framesPassedOver their frames.
	passedOver, framesPassedOver uint64
	frames                       uint64
	came                         uint64 // records of requests and bios
	damaged                      uint64 // records that could not be decoded
	// lastMonoNs is the CLOCK_MONOTONIC of the last frame's return or request's
	// completion.
	lastMonoNs uint64
}

// namedExporter is an exporter and what the summary calls it.
type namedExporter struct {
	name string
	export.Exporter
}

// pipelineNames name what the kernel reports. Those of what is not traced may be
// nil.
type pipelineNames struct {
	names      spans.Names
	blockNames spans.BlockNames
	// statusBefore610 is spans.BlockOptions.StatusBefore610.
	statusBefore610 bool
}

type pipelineOptions struct {
	pipelineNames
	clock        spans.Clock
	seed         [16]byte
	rawAddresses bool
	describe     bool
	tracker      journey.Options
	block        blockio.Options
	only         onlyRules
	limit        uint64
	exporters    []namedExporter
}

func newPipeline(o pipelineOptions) *pipeline {
	p := &pipeline{
		builder: spans.NewBuilder(spans.Options{
			Names:        o.names,
			Clock:        o.clock,
			Seed:         o.seed,
			RawAddresses: o.rawAddresses,
			Describe:     o.describe,
		}),
		requests: spans.NewRequestBuilder(spans.BlockOptions{
			Names:           o.blockNames,
			Clock:           o.clock,
			Seed:            o.seed,
			RawAddresses:    o.rawAddresses,
			StatusBefore610: o.statusBefore610,
		}),
		exporters: o.exporters,
		only:      o.only,
		limit:     o.limit,
	}
	p.tracker = journey.NewTracker(o.tracker, p.emit)
	p.blocks = blockio.NewTracker(o.block, p.emitRequest)
	return p
}

// emit exports one finished journey.
func (p *pipeline) emit(j *journey.Journey) {
	if p.reached() {
		return
	}
	trace := p.builder.Build(j)
	if !p.only.want(trace) {
		p.passedOver++
		p.framesPassedOver += uint64(len(j.Frames))
		return
	}
	p.export(trace)
}

// emitRequest exports one request with all that it caused.
func (p *pipeline) emitRequest(r *blockio.Request) {
	if p.reached() {
		return
	}
	trace := p.requests.Build(r)
	wanted := p.only.want(trace)
	if p.observe != nil {
		p.observe(r, trace, wanted)
	}
	if !wanted {
		p.passedOver++
		return
	}
	p.export(trace)
}

func (p *pipeline) export(trace *spans.Trace) {
	p.traces++
	p.spans += uint64(len(trace.Spans))
	p.waits += uint64(trace.Waits)
	for _, e := range p.exporters {
		e.Export(trace)
	}
}

// record takes one record of the ring buffer.
func (p *pipeline) record(raw []byte) {
	if err := bpf.Decode(raw, &p.event); err != nil {
		p.damaged++
		return
	}
	switch p.event.Kind {
	case event.KindFrame:
		p.frames++
		p.lastMonoNs = p.event.Frame.ExitMonoNs
	case event.KindRequest, event.KindBio:
		p.came++
		p.lastMonoNs = max(p.lastMonoNs, p.event.Block.CompleteMonoNs)
	}
	if k := p.event.Kind; k >= event.KindRequest && k <= event.KindRequeue {
		p.blocks.Add(&p.event)
	} else {
		p.tracker.Add(&p.event)
	}
}

// advance tells the trackers up to when everything has been read.
func (p *pipeline) advance(nowMonoNs uint64) {
	p.tracker.Advance(nowMonoNs)
	p.blocks.Advance(nowMonoNs)
}

// closeAll ends what is still open, as unfinished.
func (p *pipeline) closeAll(nowMonoNs uint64) {
	p.tracker.CloseAll(nowMonoNs)
	p.blocks.CloseAll(nowMonoNs)
}

// reached is true when the limit of traces has been exported.
func (p *pipeline) reached() bool { return p.limit > 0 && p.traces >= p.limit }
