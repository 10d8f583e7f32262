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

	"github.com/otel-kprobe/otel-kprobe/internal/event"
	"github.com/otel-kprobe/otel-kprobe/internal/journey"
	"github.com/otel-kprobe/otel-kprobe/spans"
)

// These tests stand in for the program: raw records are events as
// encoding/binary writes them, so that no kernel side is needed.

func encode(t *testing.T, ev *event.Event) []byte {
	t.Helper()
	raw, err := binary.Append(nil, binary.LittleEndian, ev)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// pipeline makes OTLP/JSON lines of records and ticks.
type pipeline struct {
	t       *testing.T
	tracker *journey.Tracker
	out     []byte
}

func newPipeline(t *testing.T, h Header, names spans.Names, clock spans.Clock) *pipeline {
	p := &pipeline{t: t}
	builder := spans.NewBuilder(spans.Options{Names: names, Clock: clock, Seed: h.Seed, SkbFields: h.SkbFields})
	envelope := spans.NewEnvelope(spans.Resource{}, spans.Scope{Name: "test"})
	p.tracker = journey.NewTracker(h.Tracker, func(j *journey.Journey) {
		p.out = envelope.AppendJSON(p.out, builder.Build(j))
	})
	return p
}

func (p *pipeline) record(raw []byte) {
	var ev event.Event
	if _, err := binary.Decode(raw, binary.LittleEndian, &ev); err != nil {
		p.t.Fatal(err)
	}
	p.tracker.Add(&ev)
}

// liveNames are names that only this machine has.
type liveNames struct{}

func (liveNames) Function(addr uint64) spans.Function {
	return spans.Function{Name: fmt.Sprintf("func_%x", addr), Module: "mod"}
}
func (liveNames) Location(addr uint64) string        { return fmt.Sprintf("func+0x%x", addr) }
func (liveNames) DropReason(value uint32) string     { return fmt.Sprintf("REASON_%d", value) }
func (liveNames) NetNS(inum uint32, _ uint64) string { return fmt.Sprintf("ns%d", inum) }

// liveEvents are three packets, interleaved: whole, dropped, and with a frame
// that never came.
func liveEvents() []event.Event {
	var all []event.Event
	for i := range uint64(3) {
		id, skb, at := 10+i, 0xff00+i, 1000+i
		all = append(all, event.Event{Kind: event.KindFacts, Facts: event.Facts{
			Journey: id, Skb: skb, AtMonoNs: at, Number: 1, NetNS: uint32(i), Flags: event.FactsStart,
		}})
	}
	for i := range uint64(3) {
		id, skb, at := 10+i, 0xff00+i, 1100+100*i
		for k := range uint64(3) {
			all = append(all, event.Event{Kind: event.KindFrame, Frame: event.Frame{
				Journey: id, Skb: skb, Func: k, Facts: 1, EnterMonoNs: at + 10*k, ExitMonoNs: at + 10*k + 5,
			}})
		}
	}
	all = append(all, event.Event{Kind: event.KindStack, Stack: event.Stack{
		Journey: 11, Skb: 0xff01, AtMonoNs: 1400, Kind: event.StackDrop, Depth: 3, Addresses: [32]uint64{0xabb, 0xabc, 0xabd},
	}}, event.Event{Kind: event.KindFields, Fields: event.Fields{
		Journey: 11, Skb: 0xff01, AtMonoNs: 1200, Valid: 1, Bytes: 8, Data: [256]byte{77},
	}})
	for i := range uint64(3) {
		e := event.End{Journey: 10 + i, Skb: 0xff00 + i, AtMonoNs: 1400 + i, Entered: 3, How: event.EndConsumed}
		switch i {
		case 1:
			e.How, e.Reason, e.Location = event.EndDropped, 5, 0xabc
		case 2:
			e.Entered = 4
		}
		all = append(all, event.Event{Kind: event.KindEnd, End: e})
	}
	return all
}

// live runs the pipeline on a "kernel" and records it.
func live(t *testing.T, file io.Writer, h Header) []byte {
	t.Helper()
	w, err := NewWriter(file, h)
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	clock := newNames()
	clock.addOffset(h.StartMonoNs, h.ClockOffsetNs)
	p := newPipeline(t, h, NewRecordedNames(liveNames{}, w), clock)
	for i, ev := range liveEvents() {
		if i == 8 { // the clock is stepped
			clock.addOffset(1250, 5_000)
			check(w.ClockOffset(1250, 5_000))
		}
		raw := encode(t, &ev)
		check(w.Record(raw))
		p.record(raw)
		check(w.Tick(1050))
		p.tracker.Advance(1050)
	}
	check(w.Tick(1402 + 50))
	p.tracker.Advance(1402 + 50)
	check(w.CloseAll(1500))
	p.tracker.CloseAll(1500)
	check(w.Close())
	return p.out
}

// replay runs the pipeline on a recording.
func replay(t *testing.T, path string) ([]byte, error) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := newPipeline(t, r.Header(), r.Names(), r.Names())
	for {
		e, err := r.Next()
		if err != nil {
			return p.out, err
		}
		switch e.Kind {
		case KindRecord:
			p.record(e.Record)
		case KindTick:
			p.tracker.Advance(e.MonoNs)
		case KindClose:
			p.tracker.CloseAll(e.MonoNs)
		}
	}
}

func TestReplayGivesTheSameBytes(t *testing.T) {
	h := Header{StartMonoNs: 900, ClockOffsetNs: 1_000_000, Seed: [16]byte{7}, Tracker: journey.Options{LingerNs: 49}}
	h.SkbFields = []event.SkbField{{Name: "skb->x", Bytes: 8, Kind: event.FieldUnsigned}}
	var file bytes.Buffer
	want := live(t, &file, h)
	if n := bytes.Count(want, []byte("\n")); n != 3 || !bytes.Contains(want, []byte("REASON_5")) ||
		!bytes.Contains(want, []byte("func+0xabc")) || !bytes.Contains(want, []byte("func_2")) ||
		!bytes.Contains(want, []byte("skb-\\u003ex=77")) && !bytes.Contains(want, []byte("skb->x=77")) ||
		!bytes.Contains(want, []byte(`func+0xabc [mod]\nfunc+0xabd [mod]`)) {
		t.Fatalf("the run itself went wrong: %s", want)
	}
	path := filepath.Join(t.TempDir(), "run.rec")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := replay(t, path)
		if !errors.Is(err, io.EOF) {
			t.Errorf("the end: %v", err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// What was recorded before the cut gives the spans that it gave.
func TestReplayOfATruncatedFile(t *testing.T) {
	var file bytes.Buffer
	whole := live(t, &file, Header{Tracker: journey.Options{LingerNs: 49}})
	path := filepath.Join(t.TempDir(), "run.rec")
	if err := os.WriteFile(path, file.Bytes()[:file.Len()-80], 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := replay(t, path)
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("the end: %v", err)
	}
	if len(got) == 0 || !bytes.HasPrefix(whole, got) {
		t.Errorf("got %s\nwhich is no beginning of %s", got, whole)
	}
}
