package main

import (
	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/correlate"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/guard"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// pipeline turns records into traces and hands them to the exporters. Live
// tracing and replay use the same one, so that both give the same spans. It is
// not safe for concurrent use.
type pipeline struct {
	tracker   *journey.Tracker
	builder   *spans.Builder
	built     func(*spans.Trace) // emitTrace, made once
	blocks    *blockio.Tracker
	requests  *spans.RequestBuilder
	exporters []namedExporter
	// summaries are made of exported traces with --correlate=child and full, nil otherwise.
	summaries *spans.Summaries
	// connections know the requests that packets' data tell; nil with
	// --correlate=off. What they say counts when a journey is emitted.
	connections *correlate.Connections
	// observe is told of each request before it is exported, with its trace, and
	// whether that is going to be; nil is allowed.
	observe func(r *blockio.Request, t *spans.Trace, exported bool)
	// noteOwner is told of each owner when its record comes, since process and
	// cgroup may be gone when the journey ends; nil is allowed.
	noteOwner func(*event.Owner)
	// budget counts the events; nil: there is none.
	budget  *guard.Budget
	event   event.Event
	only    chooser
	limit   uint64 // traces after which reached() is true; 0: none
	traces  uint64
	spans   uint64
	waits   uint64 // spans among them
	summed  uint64 // spans among them that are summaries
	copied  uint64 // spans among them that are copies of others
	shift   shift
	handed  handedOver
	frames  uint64
	records uint64 // that came, of any kind
	came    uint64 // records of requests and bios
	damaged uint64 // records that could not be decoded
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
	ownerNames spans.OwnerNames
	noteOwner  func(*event.Owner) // nil: nobody is to be told
	// statusBefore610 is spans.BlockOptions.StatusBefore610.
	statusBefore610 bool
	// skbFields is spans.Options.SkbFields.
	skbFields []event.SkbField
}

type pipelineOptions struct {
	pipelineNames
	clock        spans.Clock
	sample       uint64 // threshold of what the kernel side sampled, see parseSample
	seed         [16]byte
	rawAddresses bool
	describe     bool
	tracker      journey.Options
	block        blockio.Options
	only         onlyRules
	correlate    string // one of the values of --correlate
	limit        uint64
	exporters    []namedExporter
}

func newPipeline(o pipelineOptions) *pipeline {
	p := &pipeline{
		builder: spans.NewBuilder(spans.Options{
			Names:        o.names,
			Owners:       o.ownerNames,
			Clock:        o.clock,
			Seed:         o.seed,
			RawAddresses: o.rawAddresses,
			Describe:     o.describe,
			SkbFields:    o.skbFields,
			NoApps:       o.correlate == correlateOff,

			SampleThreshold: o.sample,
		}),
		requests: spans.NewRequestBuilder(spans.BlockOptions{
			Names:           o.blockNames,
			Clock:           o.clock,
			Seed:            o.seed,
			RawAddresses:    o.rawAddresses,
			StatusBefore610: o.statusBefore610,
			SampleThreshold: o.sample,
			NoApps:          o.correlate == correlateOff,
		}),
		exporters: o.exporters,
		noteOwner: o.noteOwner,
		only:      newChooser(o.only),
		limit:     o.limit,
	}
	p.built = p.emitTrace
	if o.correlate != correlateOff {
		p.connections = correlate.NewConnections(correlate.Options{})
	}
	if o.correlate == correlateChild || o.correlate == correlateFull {
		p.summaries = spans.NewSummaries(spans.SummaryOptions{Seed: o.seed, Copies: o.correlate == correlateFull}, p.exportChild)
	}
	p.tracker = journey.NewTracker(o.tracker, p.emit)
	p.blocks = blockio.NewTracker(o.block, p.emitRequest)
	return p
}

// emit exports one finished journey.
func (p *pipeline) emit(j *journey.Journey) {
	if !p.shift.has(j.StartMonoNs()) {
		p.handed.add(j)
		return
	}
	if p.reached() {
		return
	}
	if p.connections != nil {
		p.connections.Tie(j)
	}
	p.builder.Each(j, p.built)
}

// emitTrace exports one trace of a journey.
func (p *pipeline) emitTrace(trace *spans.Trace) {
	if !p.reached() && p.only.choose(trace) {
		p.export(trace)
	}
}

// emitRequest exports one request with all that it caused.
func (p *pipeline) emitRequest(r *blockio.Request) {
	if p.reached() {
		return
	}
	trace := p.requests.Build(r)
	wanted := p.only.choose(trace)
	if p.observe != nil {
		p.observe(r, trace, wanted)
	}
	if wanted {
		p.export(trace)
	}
}

func (p *pipeline) export(trace *spans.Trace) {
	p.traces++
	p.spans += uint64(len(trace.Spans))
	p.waits += uint64(trace.Waits)
	for _, e := range p.exporters {
		e.Export(trace)
	}
	if p.summaries != nil {
		p.summaries.Add(trace)
	}
}

// exportChild exports what becomes part of an application's trace: a summary, or a copy.
func (p *pipeline) exportChild(child *spans.Trace) {
	n := uint64(len(child.Spans))
	p.spans += n
	if child.Copy {
		p.copied += n
	} else {
		p.summed += n
	}
	for _, e := range p.exporters {
		e.Export(child)
	}
}

// record takes one record of the ring buffer. Of a payload's it overwrites what may not
// leave the machine.
func (p *pipeline) record(raw []byte) {
	p.records++
	if err := bpf.Decode(raw, &p.event); err != nil {
		p.damaged++
		return
	}
	if p.budget != nil {
		p.budget.Count(&p.event)
	}
	switch p.event.Kind {
	case event.KindFrame:
		p.frames++
		p.lastMonoNs = p.event.Frame.ExitMonoNs
	case event.KindOwner:
		if p.noteOwner != nil {
			p.noteOwner(&p.event.Owner)
		}
	case event.KindPayload:
		p.notePayload(raw)
		return
	case event.KindRequest, event.KindBio:
		p.came++
		p.lastMonoNs = max(p.lastMonoNs, p.event.Block.CompleteMonoNs)
	}
	if p.event.Kind.OfBlock() {
		p.blocks.Add(&p.event)
	} else {
		p.tracker.Add(&p.event)
	}
}

// notePayload learns of requests from the record in event, and overwrites in the raw
// one what it has not learned from: that may go into a recording.
func (p *pipeline) notePayload(raw []byte) {
	data := bpf.PayloadData(raw)
	if p.connections == nil {
		clear(data)
		return
	}
	p.connections.Note(&p.event.Payload)
	p.connections.Scrub(data)
}

// advance tells the trackers up to when everything has been read.
func (p *pipeline) advance(nowMonoNs uint64) {
	p.tracker.Advance(nowMonoNs)
	p.blocks.Advance(nowMonoNs)
	if p.connections != nil {
		p.connections.Advance(nowMonoNs)
	}
	if p.summaries != nil {
		p.summaries.Advance(nowMonoNs)
	}
}

// closeAll ends what is still open, as unfinished.
func (p *pipeline) closeAll(nowMonoNs uint64) {
	p.tracker.CloseAll(nowMonoNs)
	p.blocks.CloseAll(nowMonoNs)
	p.closeSummaries()
}

// closeSummaries makes the summaries that are open, below which copies stand already.
func (p *pipeline) closeSummaries() {
	if p.summaries != nil {
		p.summaries.CloseAll()
	}
}

// reached is true when the limit of traces has been exported.
func (p *pipeline) reached() bool { return p.limit > 0 && p.traces >= p.limit }
