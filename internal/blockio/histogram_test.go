package blockio

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func TestBucketBoundsAreExact(t *testing.T) {
	_, last := BucketBounds(-1)
	if last > 63 {
		t.Errorf("the first bucket ends at %d", last)
	}
	last = 0
	for i := range Buckets {
		from, to := BucketBounds(i)
		if from != last || to <= from {
			t.Fatalf("bucket %d is %d to %d, the one before ends at %d", i, from, to, last)
		}
		last = to
		for _, c := range []struct {
			ns   uint64
			want int
		}{{from, i}, {from + 1, i}, {to - 1, i}, {to, min(i+1, Buckets-1)}} {
			if got := Bucket(c.ns); got != c.want {
				t.Errorf("%d ns is in bucket %d, want %d", c.ns, got, c.want)
			}
		}
		if from > 0 && Bucket(from-1) != i-1 {
			t.Errorf("%d ns is in bucket %d, want %d", from-1, Bucket(from-1), i-1)
		}
		if i >= perOctave && i < Buckets-1 && float64(to-from) > float64(from)/perOctave+1 {
			t.Errorf("bucket %d, %d to %d, is too wide", i, from, to)
		}
	}
	if last != math.MaxUint64 {
		t.Errorf("the last bucket ends at %d", last)
	}
}

func TestBucket(t *testing.T) {
	for ns, want := range map[uint64]int{
		0: 0, 62: 0, 63: 1, 999: 15, 1000: 16, 1999: 31, 2000: 32, 2124: 32, 2125: 33,
		1_000_000: 175, math.MaxUint64: 511, 1 << 63: 511,
	} {
		if got := Bucket(ns); got != want {
			t.Errorf("%d ns is in bucket %d, want %d", ns, got, want)
		}
	}
}

func histogramOf(ns ...uint64) *Histogram {
	h := &Histogram{}
	for _, v := range ns {
		h.Add(v)
	}
	return h
}

func TestRows(t *testing.T) {
	for _, c := range []struct {
		name string
		h    *Histogram
		want []Row
	}{
		{"empty", histogramOf(), nil},
		{"below a microsecond", histogramOf(0, 999), []Row{{0, 1, 2}}},
		{"a gap", histogramOf(1000, 1999, 2000, 16_000, 31_999), []Row{{1, 2, 2}, {2, 4, 1}, {4, 8, 0}, {8, 16, 0}, {16, 32, 2}}},
		{"too long", histogramOf(1 << 62), []Row{{1 << 30, 1 << 31, 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.h.Rows()); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	if got := histogramOf().Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
	for _, q := range []float64{-1, 0, 0.5, 1, 2} {
		if got := histogramOf(12345).Quantile(q); got != 12345 {
			t.Errorf("of one value at %v: %d", q, got)
		}
	}
	h := &Histogram{}
	for i := range uint64(100_000) {
		h.Add(1000 + i*10)
	}
	last := uint64(0)
	for q := 0.0; q <= 1; q += 1.0 / 64 {
		got, want := h.Quantile(q), 1000+q*1_000_000
		if math.Abs(float64(got)-want) > want/1000 {
			t.Errorf("quantile %v is %d, want %v", q, got, want)
		}
		if got < last {
			t.Errorf("quantile %v is %d, below the one before", q, got)
		}
		last = got
	}
	if got := histogramOf(1, math.MaxUint64).Quantile(1); got != math.MaxUint64 {
		t.Errorf("the longest is %d", got)
	}
	h.MinNs, h.MaxNs = 0, 0 // as the kernel side counts
	if got := h.Quantile(0.5); got < 499_000 || got > 503_000 {
		t.Errorf("without bounds the median is %d", got)
	}
}

func TestMergeAndMinus(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var a, b, both Histogram
		for range r.IntN(20) {
			ns := r.Uint64N(1 << (10 + r.IntN(30)))
			a.Add(ns)
			both.Add(ns)
		}
		for range r.IntN(20) {
			ns := r.Uint64N(1 << (10 + r.IntN(30)))
			b.Add(ns)
			both.Add(ns)
		}
		merged := a
		merged.Merge(&b)
		if diff := cmp.Diff(both, merged); diff != "" {
			t.Fatalf("merged (-want +got):\n%s", diff)
		}
		merged.Minus(&a)
		if merged.Counts != b.Counts || merged.Count != b.Count || merged.SumNs != b.SumNs {
			t.Fatalf("the rest has %d counts with sum %d, want %d and %d", merged.Count, merged.SumNs, b.Count, b.SumNs)
		}
		if b.Count == 0 {
			continue
		}
		if merged.MinNs > b.MinNs || merged.MaxNs < b.MaxNs || Bucket(merged.MinNs) != Bucket(b.MinNs) || Bucket(merged.MaxNs) != Bucket(b.MaxNs) {
			t.Errorf("the rest is %d to %d, want %d to %d", merged.MinNs, merged.MaxNs, b.MinNs, b.MaxNs)
		}
	}
}

func TestMinusOfTornCounts(t *testing.T) {
	h, earlier := histogramOf(5000), histogramOf(5000, 5000, 70_000)
	h.Minus(earlier)
	if diff := cmp.Diff(Histogram{}, *h); diff != "" {
		t.Errorf("interval (-want +got):\n%s", diff)
	}
}

func TestLatencyAndCounted(t *testing.T) {
	child := &Request{}
	for _, c := range []struct {
		name     string
		r        Request
		ns       uint64
		ok       bool
		byDevice bool
		others   bool
	}{
		{"request", Request{Block: event.Block{SubmitMonoNs: 5, IssueMonoNs: 10, CompleteMonoNs: 30}}, 20, true, true, true},
		{"bio", Request{Bio: true, Block: event.Block{SubmitMonoNs: 5, CompleteMonoNs: 30}}, 25, true, true, true},
		{"bio with children", Request{Bio: true, Children: []*Request{child}, Block: event.Block{SubmitMonoNs: 5, CompleteMonoNs: 30}}, 25, true, true, false},
		{"not issued", Request{Block: event.Block{SubmitMonoNs: 5, CompleteMonoNs: 30}}, 25, true, false, false},
		{"unfinished", Request{Unfinished: true, Block: event.Block{IssueMonoNs: 5, CompleteMonoNs: 30}}, 25, true, false, false},
		{"no start", Request{Bio: true, Block: event.Block{CompleteMonoNs: 30}}, 0, false, false, false},
		{"no end", Request{Block: event.Block{IssueMonoNs: 30}}, 0, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if ns, ok := Latency(&c.r.Block); ns != c.ns || ok != c.ok {
				t.Errorf("latency %d, %v, want %d, %v", ns, ok, c.ns, c.ok)
			}
			for by := ByNone; by <= ByProcess; by++ {
				want := c.others
				if by == ByDevice {
					want = c.byDevice
				}
				if got := Counted(by, &c.r); got != want {
					t.Errorf("counted by %q: %v, want %v", by, got, want)
				}
			}
		})
	}
}

func TestKeys(t *testing.T) {
	b := &event.Block{Device: 259<<20 | 5, Operation: 1<<11 | 3, Cgroup: 0x0102030405060708}
	copy(b.Comm[:], "fio")
	for by, want := range map[By]Key{
		ByNone: {}, ByDevice: {5, 0, 0x30, 0x10}, ByOperation: {3},
		ByCgroup: {8, 7, 6, 5, 4, 3, 2, 1}, ByProcess: {'f', 'i', 'o'},
	} {
		if got := KeyOf(by, b); got != want {
			t.Errorf("by %q: %x, want %x", by, got, want)
		}
	}
	if k := KeyOf(ByDevice, b); k.Device() != b.Device {
		t.Errorf("device %x", k.Device())
	}
	if k := KeyOf(ByOperation, b); k.Op() != 3 {
		t.Errorf("op %d", k.Op())
	}
	if k := KeyOf(ByCgroup, b); k.Cgroup() != b.Cgroup {
		t.Errorf("cgroup %x", k.Cgroup())
	}
	if k := KeyOf(ByProcess, b); k.Comm() != "fio" || OverflowKey().Comm() == "" {
		t.Errorf("comm %q", k.Comm())
	}
}

func TestParseBy(t *testing.T) {
	for s, want := range map[string]By{"device": ByDevice, "op": ByOperation, "cgroup": ByCgroup, "process": ByProcess} {
		if got, err := ParseBy(s); got != want || err != nil {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "devices", "DEVICE"} {
		if got, err := ParseBy(s); err == nil {
			t.Errorf("%q is %v, want an error", s, got)
		}
	}
}

func TestHistogramsAreBounded(t *testing.T) {
	h := NewHistograms(2)
	for _, k := range []byte{7, 9, 1, 2, 9, 3, 7} {
		h.Add(Key{k}, uint64(k)*1000)
	}
	h.Merge(Key{4}, histogramOf(1))
	var got []Key
	var counts []uint64
	for _, k := range h.All() {
		got, counts = append(got, k.Key), append(counts, k.Count)
	}
	if diff := cmp.Diff([]Key{OverflowKey(), {7}, {9}}, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint64{4, 2, 2}, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func BenchmarkHistogramAdd(b *testing.B) {
	var h Histogram
	ns := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		ns = (ns*31 + 977) & (1<<24 - 1)
		h.Add(ns)
	}
}
