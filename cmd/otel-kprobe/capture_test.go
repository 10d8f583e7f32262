package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/recording"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// fakeRing gives records, and calls empty when it has no more.
type fakeRing struct {
	records [][]byte
	empty   func() error
}

func (r *fakeRing) SetDeadline(time.Time) {}

func (r *fakeRing) ReadInto(record *ringbuf.Record) error {
	if len(r.records) == 0 {
		return r.empty()
	}
	// A ring reuses its memory: whoever keeps a record sees it change.
	record.RawSample = append(record.RawSample[:0], r.records[0]...)
	r.records = r.records[1:]
	return nil
}

func (r *fakeRing) AvailableBytes() int {
	n := 0
	for _, record := range r.records {
		n += len(record)
	}
	return n
}

// recordsOf gives the records of a recording, its names and its last time.
func recordsOf(t *testing.T, path string) (records [][]byte, names *recording.Names, endMonoNs uint64) {
	t.Helper()
	reader, err := recording.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for {
		entry, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return records, reader.Names(), endMonoNs
		}
		if err != nil {
			t.Fatal(err)
		}
		switch entry.Kind {
		case recording.KindRecord:
			records = append(records, append([]byte{}, entry.Record...))
		case recording.KindClose:
			endMonoNs = entry.MonoNs
		}
	}
}

// captureOf gives a capture of the records of the pings that writes JSON lines.
func captureOf(t *testing.T, limit uint64) (c *capture, ring *fakeRing, out *bytes.Buffer) {
	t.Helper()
	records, names, end := recordsOf(t, recordPing)
	out = &bytes.Buffer{}
	ring = &fakeRing{records: records, empty: func() error { return os.ErrDeadlineExceeded }}
	console := export.NewConsole(out, export.ConsoleOptions{Format: export.FormatJSON})
	return &capture{
		reader: ring,
		monoNs: func() uint64 { return end },
		pipeline: newPipeline(pipelineOptions{
			pipelineNames: pipelineNames{names: names, blockNames: names}, clock: names, seed: [16]byte{7}, limit: limit,
			exporters: []namedExporter{{exporterConsole, console}},
		}),
	}, ring, out
}

func TestCaptureEndsAtLimit(t *testing.T) {
	c, ring, out := captureOf(t, 2)
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := len(ring.records)
	if err := c.drain(); err != nil {
		t.Fatal(err)
	}
	c.closeAll()
	if c.pipeline.traces != 2 || len(ring.records) != left || bytes.Count(out.Bytes(), []byte("\n")) != int(c.pipeline.spans) {
		t.Errorf("%d traces, %d records left, then %d", c.pipeline.traces, left, len(ring.records))
	}
}

// At the end what is in the ring is read, and journeys that are open are closed.
func TestCaptureDrains(t *testing.T) {
	c, ring, _ := captureOf(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.run(ctx); err != nil || len(ring.records) == 0 {
		t.Fatalf("%v, %d records left", err, len(ring.records))
	}
	if err := c.drain(); err != nil || len(ring.records) != 0 {
		t.Errorf("%v, %d records left", err, len(ring.records))
	}
	c.closeAll()
	if c.pipeline.traces != pingTraces || c.pipeline.spans != pingSpans {
		t.Errorf("%d traces, %d spans", c.pipeline.traces, c.pipeline.spans)
	}
}

func TestCaptureFails(t *testing.T) {
	c, ring, _ := captureOf(t, 0)
	ring.empty = func() error { return errors.New("lost it") }
	if err := c.run(t.Context()); err == nil || err.Error() != "read the ring buffer: lost it" {
		t.Error(err)
	}
}

// What is recorded while it is captured gives the same bytes again, whatever
// moment the capture was in when it stopped.
func TestCaptureIsRepeatable(t *testing.T) {
	for _, limit := range []uint64{0, 1, 3} {
		c, ring, live := captureOf(t, limit)
		var file bytes.Buffer
		writer, err := recording.NewWriter(&file, recording.Header{HostName: "host", Seed: [16]byte{7}})
		if err != nil {
			t.Fatal(err)
		}
		_, names, _ := recordsOf(t, recordPing)
		offset := names.OffsetNs(0)
		if err := writer.ClockOffset(1, offset); err != nil {
			t.Fatal(err)
		}
		c.recorder = writer
		console := c.pipeline.exporters
		c.pipeline = newPipeline(pipelineOptions{
			pipelineNames: pipelineNames{names: recording.NewRecordedNames(names, writer)},
			clock:         fixedClock(offset),
			seed:          [16]byte{7}, limit: limit, exporters: console,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ring.empty = func() error { cancel(); return os.ErrDeadlineExceeded }
		if err := c.run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		c.closeAll()
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		args := []string{"replay", "--format", "json"}
		if limit > 0 {
			args = append(args, "--limit-traces", string(rune('0'+limit)))
		}
		got := command(t, append(args, write(t, "again.okrec", file.Bytes()))...)
		if diff := cmp.Diff(live.String(), got.Stdout); diff != "" || live.Len() == 0 {
			t.Errorf("limit %d: -live +replay:\n%s", limit, diff)
		}
	}
}

type fixedClock int64

func (c fixedClock) OffsetNs(uint64) int64 { return int64(c) }

var _ spans.Clock = fixedClock(0)

// While records wait in the ring, the present is the time of the last one.
func TestCaptureTicks(t *testing.T) {
	var file bytes.Buffer
	writer, err := recording.NewWriter(&file, recording.Header{})
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{recorder: writer, monoNs: func() uint64 { return 99 }, pipeline: newPipeline(pipelineOptions{})}
	c.pipeline.lastMonoNs = 42
	for _, empty := range []bool{false, true} {
		c.tick(empty)
		if want := map[bool]uint64{false: 42, true: 99}[empty]; c.presentMonoNs != want {
			t.Errorf("ring empty: %v: the present is %d, want %d", empty, c.presentMonoNs, want)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := recording.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint64{42, 99} {
		if entry, err := reader.Next(); err != nil || entry.Kind != recording.KindTick || entry.MonoNs != want {
			t.Errorf("%+v %v, want a tick at %d", entry, err, want)
		}
	}
}

// fakeEvicter notes what it is asked for.
type fakeEvicter struct{ before []uint64 }

func (f *fakeEvicter) EvictIdle(beforeMonoNs uint64) (int, error) {
	f.before = append(f.before, beforeMonoNs)
	return 3, nil
}

// A kernel that was just booted has no skb that is idle for long.
func TestCaptureEvicts(t *testing.T) {
	const idle = uint64(idleAfter)
	for now, want := range map[uint64][]uint64{5: nil, idle: nil, idle + 5: {5}} {
		evicter := &fakeEvicter{}
		c := &capture{objects: evicter, monoNs: func() uint64 { return now }}
		if err := c.evict(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, evicter.before); diff != "" || c.evicted != uint64(3*len(want)) {
			t.Errorf("at %d: %s, %d evicted", now, diff, c.evicted)
		}
	}
}
