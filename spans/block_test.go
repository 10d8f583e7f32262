package spans

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestBlockGolden(t *testing.T) {
	for name, r := range blockScenarios() {
		t.Run(name, func(t *testing.T) {
			got := dump(testRequestBuilder().Build(r))
			path := filepath.Join("testdata", "block-"+name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("trace differs (-want +got), run with -update if it should:\n%s", diff)
			}
		})
	}
}

func TestBlockBuildIsPure(t *testing.T) {
	b := testRequestBuilder()
	want := map[string]string{}
	for range 2 {
		for name, r := range blockScenarios() {
			got := dump(b.Build(r))
			if w, ok := want[name]; ok && w != got {
				t.Errorf("%s: second build differs (-want +got):\n%s", name, cmp.Diff(w, got))
			}
			want[name] = got
		}
	}
}

func TestBlockBuildAllocatesNothing(t *testing.T) {
	b := testRequestBuilder()
	scenarios := blockScenarios()
	env := NewEnvelope(Resource{}, Scope{Name: "x"})
	var otlp, line []byte
	run := func() {
		for _, r := range scenarios {
			tr := b.Build(r)
			otlp = AppendOTLP(env.Reserve(otlp), tr)
			_, otlp = env.Close(otlp)
			line = env.AppendJSON(line[:0], tr)
		}
	}
	run()
	if n := testing.AllocsPerRun(50, run); n != 0 {
		t.Errorf("%v allocations for %d traces, want 0", n, len(scenarios))
	}
}

// TestBlockSpans holds what the exporters rely on for every scenario.
func TestBlockSpans(t *testing.T) {
	for name, r := range blockScenarios() {
		t.Run(name, func(t *testing.T) {
			tr := testRequestBuilder().Build(r)
			if !tr.Block || tr.First != -1 || tr.Last != -1 || tr.DropSpan != -1 || tr.Journey != 0 {
				t.Errorf("trace says %v, %d, %d, %d, %d", tr.Block, tr.First, tr.Last, tr.DropSpan, tr.Journey)
			}
			for i := range tr.Spans {
				s := &tr.Spans[i]
				if s.EndUnixNs <= s.StartUnixNs {
					t.Errorf("span %d lasts %d ns", i, int64(s.EndUnixNs-s.StartUnixNs))
				}
				if s.Block == nil || s.Facts != -1 {
					t.Fatalf("span %d: block %v, facts %d", i, s.Block, s.Facts)
				}
				if i == 0 {
					continue
				}
				p := &tr.Spans[s.ParentIndex]
				if s.Parent != p.ID || s.Depth != p.Depth+1 {
					t.Errorf("span %d does not hang on its parent", i)
				}
				if s.Wait && (s.Block != p.Block || s.EndUnixNs != p.StartUnixNs) {
					t.Errorf("span %d is a wait that does not end at its request", i)
				}
				if !s.Wait && s.Block.Parent != p.Block.ID {
					t.Errorf("span %d is of a child of %d, below %d", i, s.Block.Parent, p.Block.ID)
				}
			}
		})
	}
}

func TestBlockIDsDifferFromJourneys(t *testing.T) {
	k := newFakeKernel()
	j := pingVeth(k)
	r := plainRead()
	r.ID = j.ID
	if a, b := testBuilder(k).Build(&j.Journey), testRequestBuilder().Build(r); a.ID == b.ID || a.Spans[0].ID == b.Spans[0].ID {
		t.Error("a request and a journey of the same number have the same ids")
	}
}

func TestBlockRawAddress(t *testing.T) {
	k := &fakeBlock{}
	address := func(raw bool) uint64 {
		tr := NewRequestBuilder(BlockOptions{Names: k, Clock: k, RawAddresses: raw}).Build(plainRead())
		return uint64(attr(t, tr, 0, KeyBlockAddress).Int)
	}
	if address(true) != skbA || address(false) == skbA {
		t.Errorf("addresses are %x raw and %x hashed", address(true), address(false))
	}
}

func TestBlockEventsAreBounded(t *testing.T) {
	r := plainRead()
	r.Merges, r.Requeues = make([]event.Block, 70), make([]event.Block, 66)
	tr := testRequestBuilder().Build(r)
	if n := len(tr.Spans[0].Events); n != 2*maxBlockEvents {
		t.Errorf("%d events, want %d", n, 2*maxBlockEvents)
	}
	for k, want := range map[Key]int64{KeyBlockMergesLeftOut: 6, KeyBlockRequeuesLeftOut: 2, KeyBlockRequeues: 66} {
		if got := attr(t, tr, 0, k).Int; got != want {
			t.Errorf("%s is %d, want %d", k, got, want)
		}
	}
}

func TestBlockAppLinksAreBounded(t *testing.T) {
	r := plainRead()
	for n := range byte(maxBlockApps + 3) {
		r.Merges = append(r.Merges, event.Block{App: testApp(n + 1)}, event.Block{App: testApp(n + 1)})
	}
	tr := testRequestBuilder().Build(r)
	if n := len(tr.Spans[0].Links); n != maxBlockApps || !tr.Correlated {
		t.Errorf("%d links, want %d; correlated: %v", n, maxBlockApps, tr.Correlated)
	}
	if got := attr(t, tr, 0, KeyAppLeftOut).Int; got != 3 {
		t.Errorf("%s is %d, want 3", KeyAppLeftOut, got)
	}
}

func TestBlockCorrelated(t *testing.T) {
	b := testRequestBuilder()
	for name, r := range blockScenarios() {
		tr := b.Build(r)
		if want := strings.HasPrefix(name, "app"); tr.Correlated != want || (len(tr.Spans[0].Links) > 0) != want {
			t.Errorf("%s: correlated %v, links %v", name, tr.Correlated, tr.Spans[0].Links)
		}
	}
}

// TestBlockAppSources expects the source that was recorded, the thread where none was,
// and each span once.
func TestBlockAppSources(t *testing.T) {
	r := plainRead()
	r.App, r.AppFlags = testApp(1), event.AppUnsampled
	r.Merges = []event.Block{
		{App: testApp(2), AppSource: event.AppHelper},
		{App: testApp(1), AppSource: event.AppHelper},
	}
	tr := testRequestBuilder().Build(r)
	want := []string{"submitted_by 1 thread unsampled", "submitted_by 2 helper"}
	if diff := cmp.Diff(want, sourcedLinks(tr)); diff != "" || !tr.Correlated || tr.CorrelatedByWire {
		t.Errorf("correlated %v, by the wire only %v, links (-want +got):\n%s", tr.Correlated, tr.CorrelatedByWire, diff)
	}
	if got := attr(t, tr, 0, KeyAppSampled); got.Int != 0 || got.Type != TypeBool {
		t.Errorf("%s is %+v, want false", KeyAppSampled, got)
	}
	r.Merges = nil
	if tr = testRequestBuilder().Build(r); tr.Correlated {
		t.Error("a span that is not sampled correlates a request")
	}
}

func TestQueueSpan(t *testing.T) {
	for _, c := range []struct {
		name                  string
		submit, insert, issue uint64
		queueNs, schedulerNs  uint64 // 0: absent
	}{
		{"submit", 10, 0, 30, 20, 0},
		{"submit and insert", 10, 25, 30, 20, 5},
		{"insert only", 0, 25, 30, 5, 5},
		{"insert first", 27, 25, 30, 5, 5},
		{"nothing before", 0, 0, 30, 0, 0},
		{"not issued", 10, 15, 0, 0, 0},
		{"at once", 30, 0, 30, 0, 0},
		{"submit after issue", 31, 0, 30, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &blockio.Request{Block: event.Block{SubmitMonoNs: c.submit, InsertMonoNs: c.insert, IssueMonoNs: c.issue, CompleteMonoNs: 50}}
			tr := testRequestBuilder().Build(r)
			if c.queueNs == 0 {
				if len(tr.Spans) != 1 {
					t.Fatalf("%d spans, want no queue", len(tr.Spans))
				}
				return
			}
			if got := tr.Spans[1]; !got.Wait || got.Name != "queue" || got.EndUnixNs-got.StartUnixNs != c.queueNs {
				t.Errorf("queue span is %+v", got)
			}
			want := map[Key]uint64{KeyDurationNs: c.queueNs}
			if c.schedulerNs > 0 {
				want[KeyBlockSchedulerDurationNs] = c.schedulerNs
			}
			got := map[Key]uint64{}
			for _, a := range tr.Spans[1].Attrs {
				got[a.Key] = uint64(a.Int)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailureBelowMarksTheRoot(t *testing.T) {
	r := dmOverTwoDisks()
	r.Status, r.Done = 0, r.Bytes
	tr := testRequestBuilder().Build(r)
	root := &tr.Spans[0]
	if !root.Error || root.Message != "failed: BLK_STS_IOERR (I/O error)" || attr(t, tr, 0, KeyErrorType).Str != "BLK_STS_IOERR" {
		t.Errorf("root: error %v, %q", root.Error, root.Message)
	}
	for _, a := range root.Attrs {
		if a.Key == KeyBlockStatus {
			t.Error("the root has a status of its own")
		}
	}
}

func BenchmarkBlockBuild(b *testing.B) {
	r := plainRead()
	bld := testRequestBuilder()
	b.ReportAllocs()
	for b.Loop() {
		bld.Build(r)
	}
	perSpan(b, 2)
}

func BenchmarkBlockAppendOTLP(b *testing.B) {
	tr := testRequestBuilder().Build(plainRead())
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendOTLP(buf[:0], tr)
	}
	perSpan(b, len(tr.Spans))
}
