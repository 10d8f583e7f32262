package main

import (
	"github.com/otel-kprobe/otel-kprobe/bpf"
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
	exporters []namedExporter
	event     event.Event
	limit     uint64 // traces after which reached() is true; 0: none
	traces    uint64
	spans     uint64
	frames    uint64
	damaged   uint64 // records that could not be decoded
	// lastMonoNs is the CLOCK_MONOTONIC of the last frame's return.
	lastMonoNs uint64
}

// namedExporter is an exporter and what the summary calls it.
type namedExporter struct {
	name string
	export.Exporter
}

type pipelineOptions struct {
	names        spans.Names
	clock        spans.Clock
	seed         [16]byte
	rawAddresses bool
	tracker      journey.Options
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
		}),
		exporters: o.exporters,
		limit:     o.limit,
	}
	p.tracker = journey.NewTracker(o.tracker, p.emit)
	return p
}

// emit exports one finished journey.
func (p *pipeline) emit(j *journey.Journey) {
	if p.reached() {
		return
	}
	trace := p.builder.Build(j)
	p.traces++
	p.spans += uint64(len(trace.Spans))
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
	if p.event.Kind == event.KindFrame {
		p.frames++
		p.lastMonoNs = p.event.Frame.ExitMonoNs
	}
	p.tracker.Add(&p.event)
}

// reached is true when the limit of traces has been exported.
func (p *pipeline) reached() bool { return p.limit > 0 && p.traces >= p.limit }
