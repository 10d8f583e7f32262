package spans

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// quarter is the threshold that one in four reaches.
const quarter = 3 << 54

// The examples of https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
// and of OTEP 235, and the limits.
func TestTraceState(t *testing.T) {
	for _, c := range []struct {
		of   Sampling
		want string
	}{
		{Sampling{}, ""},
		{Sampling{0, 0x6e6d1a75832a2f}, "ot=th:0;rv:6e6d1a75832a2f"}, // 100 %
		{Sampling{quarter, 0xe6d1a75832a2f0}, "ot=th:c;rv:e6d1a75832a2f0"},
		{Sampling{1 << 55, 1<<56 - 1}, "ot=th:8;rv:ffffffffffffff"},                     // 50 %
		{Sampling{0xfd70a3d70a3d71, 1 << 55}, "ot=th:fd70a3d70a3d71;rv:80000000000000"}, // 1 %
		{Sampling{0x10, 0x10}, "ot=th:0000000000001;rv:00000000000010"},
		{Sampling{1, 1}, "ot=th:00000000000001;rv:00000000000001"},
	} {
		if got := string(c.of.AppendTraceState(nil)); got != c.want {
			t.Errorf("%+v is %q, want %q", c.of, got, c.want)
		}
	}
}

// Each encoder has it on each span of a packet and of a request, and the spans of
// applications' traces, which another sampler decided on, have it not.
func TestSampledGolden(t *testing.T) {
	k := newFakeKernel()
	j := pingVeth(k)
	j.Facts[1].Randomness = 0xd00000000000ff // the first were without, or are lost
	b := NewBuilder(Options{Names: k, Clock: k, Seed: [16]byte{1, 2, 3}, SampleThreshold: quarter})
	resource, scope := testEnvelope()
	line := func(tr *Trace) string { return string(NewEnvelope(resource, scope).AppendJSON(nil, tr)) }
	packet := line(b.Build(&j.Journey))
	r := plainRead()
	block := &fakeBlock{}
	request := line(NewRequestBuilder(BlockOptions{Names: block, Clock: block, SampleThreshold: 1}).Build(r))
	checkGolden(t, "sampled", packet+request)
	r.Parent = 1
	orphan := line(NewRequestBuilder(BlockOptions{Names: block, Clock: block, SampleThreshold: 1}).Build(r))
	if strings.Contains(orphan, "traceState") {
		t.Errorf("the randomness of what caused a request is not known, and told:\n%s", orphan)
	}
}

func TestCopiesAreNotSampled(t *testing.T) {
	k := newFakeKernel()
	tr := testBuilder(k).Build(&sentIn(k, 1, 0, 1).Journey)
	tr.Sampling = Sampling{quarter, quarter}
	var got []Sampling
	s := NewSummaries(SummaryOptions{Copies: true}, func(child *Trace) { got = append(got, child.Sampling) })
	s.Add(tr)
	s.CloseAll()
	if diff := cmp.Diff([]Sampling{{}, {}}, got); diff != "" {
		t.Errorf("copy and summary (-want +got):\n%s", diff)
	}
}

// As many requests are kept as the threshold says, whatever follows what.
func TestRandomnessOfRequests(t *testing.T) {
	const n = 100_000
	for _, step := range []uint64{1, 1 << 20, 1_000_003} {
		kept := 0
		for i := range uint64(n) {
			b := event.Block{ID: 1<<48 + i, IssueMonoNs: i * step}
			if b.Randomness() >= quarter {
				kept++
			}
			if b.Randomness()>>56 != 0 {
				t.Fatalf("randomness %x has more than 56 bits", b.Randomness())
			}
		}
		if deviation := math.Sqrt(n * .25 * .75); math.Abs(float64(kept)-n/4) > 5*deviation {
			t.Errorf("%d of %d requests kept, %d ns apart", kept, n, step)
		}
	}
}
