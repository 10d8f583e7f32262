package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// blockPipeline makes OTLP/JSON lines of records of block requests and ticks.
type blockPipeline struct {
	t       *testing.T
	tracker *blockio.Tracker
	out     []byte
}

func newBlockPipeline(t *testing.T, h Header, names spans.BlockNames, clock spans.Clock) *blockPipeline {
	p := &blockPipeline{t: t}
	builder := spans.NewRequestBuilder(spans.BlockOptions{Names: names, Clock: clock, Seed: h.Seed})
	envelope := spans.NewEnvelope(spans.Resource{}, spans.Scope{Name: "test"})
	p.tracker = blockio.NewTracker(h.Block, func(r *blockio.Request) {
		p.out = envelope.AppendJSON(p.out, builder.Build(r))
	})
	return p
}

func (p *blockPipeline) record(raw []byte) {
	var ev event.Event
	if _, err := binary.Decode(raw, binary.LittleEndian, &ev); err != nil {
		p.t.Fatal(err)
	}
	p.tracker.Add(&ev)
}

// liveBlockNames are names that only this machine has.
type liveBlockNames struct{}

func (liveBlockNames) Device(dev uint32) string     { return fmt.Sprintf("disk%d", dev) }
func (liveBlockNames) Cgroup(id uint64) string      { return fmt.Sprintf("/live.slice/%d", id) }
func (liveBlockNames) Operation(op uint8) string    { return fmt.Sprintf("operation%d", op) }
func (liveBlockNames) RequestFlag(bit uint8) string { return fmt.Sprintf("flag%d", bit) }

// liveBlockEvents are a plain request, a bio with the request that it caused,
// and a request that waits for a bio of which nothing comes.
func liveBlockEvents() []event.Event {
	block := func(kind event.Kind, id, parent uint64) event.Event {
		return event.Event{Kind: kind, Block: event.Block{
			ID: id, Parent: parent, SubmitMonoNs: 1000 + id, IssueMonoNs: 1100 + id, CompleteMonoNs: 1200 + id,
			Sector: 8 * id, Device: uint32(id), Bytes: 4096, Done: 4096, Operation: 1<<11 | uint32(id),
			Cgroup: 70 + id, Bios: 1, Flags: event.BlockSubmitter,
		}}
	}
	bio := block(event.KindBio, 3, 0)
	bio.Block.IssueMonoNs = 0
	return []event.Event{
		block(event.KindRequest, 1, 0), block(event.KindRequest, 2, 3), bio, block(event.KindRequest, 4, 9),
	}
}

// liveBlock runs the pipeline on a "kernel" and records it.
func liveBlock(t *testing.T, file io.Writer, h Header) []byte {
	t.Helper()
	w, err := NewWriter(file, h)
	if err != nil {
		t.Fatal(err)
	}
	clock := newNames()
	clock.addOffset(h.StartMonoNs, h.ClockOffsetNs)
	p := newBlockPipeline(t, h, RecordedBlockNames{Names: liveBlockNames{}, Writer: w}, clock)
	for _, ev := range liveBlockEvents() {
		raw := encode(t, &ev)
		if err := errors.Join(w.Record(raw), w.Tick(1210)); err != nil {
			t.Fatal(err)
		}
		p.record(raw)
		p.tracker.Advance(1210)
	}
	if err := errors.Join(w.CloseAll(1300), w.Flush()); err != nil {
		t.Fatal(err)
	}
	p.tracker.CloseAll(1300)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return p.out
}

func TestBlockReplayGivesTheSameBytes(t *testing.T) {
	h := Header{StartMonoNs: 900, ClockOffsetNs: 1_000_000, Seed: [16]byte{7}, Block: blockio.Options{IdleNs: 500, MaxHeld: 10}}
	var file bytes.Buffer
	want := liveBlock(t, &file, h)
	if n := bytes.Count(want, []byte("\n")); n != 3 || !bytes.Contains(want, []byte("disk2")) ||
		!bytes.Contains(want, []byte("/live.slice/71")) || !bytes.Contains(want, []byte("operation4")) ||
		!bytes.Contains(want, []byte("flag11")) {
		t.Fatalf("the run itself went wrong: %s", want)
	}
	path := filepath.Join(t.TempDir(), "run.rec")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := newBlockPipeline(t, r.Header(), r.Names(), r.Names())
	for err == nil {
		var e Entry
		e, err = r.Next()
		switch e.Kind {
		case KindRecord:
			p.record(e.Record)
		case KindTick:
			p.tracker.Advance(e.MonoNs)
		case KindClose:
			p.tracker.CloseAll(e.MonoNs)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	if d := cmp.Diff(string(want), string(p.out)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A recording from before block requests were traced reads as it did.
func TestOldRecording(t *testing.T) {
	r, err := Open("../../cmd/otel-kprobe/testdata/ping.okrec")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	entries, err := readAll(r)
	if !errors.Is(err, io.EOF) || len(entries) == 0 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if h := r.Header(); h.Block != (blockio.Options{}) || h.KernelRelease == "" {
		t.Errorf("its header is %+v", h)
	}
}
