package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
)

// Every latency is in its exponential bucket, or off by no more than its linear
// bucket is wide.
func TestExponentialBuckets(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	spread := make([]uint64, 5000)
	for i := range spread {
		spread[i] = uint64(math.Exp2(random.Float64() * 41))
	}
	for _, c := range []struct {
		name string
		ns   []uint64
	}{
		{"nothing took time", []uint64{0, 0}},
		{"first bucket", []uint64{0, 1, 62}},
		{"one", []uint64{70_000}},
		{"edges", []uint64{63, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000, 2_000_000_001}},
		{"beyond the last bucket", []uint64{1, 2_079_999_999_999, 3_000_000_000_000, 1 << 62}},
		{"spread", spread},
	} {
		t.Run(c.name, func(t *testing.T) {
			buckets, count := exponentialBuckets(latenciesOf(c.ns...))
			if count != uint64(len(c.ns)) {
				t.Errorf("%d counts, want %d", count, len(c.ns))
			}
			sum := uint64(0)
			for _, n := range buckets.Counts {
				sum += n
			}
			if sum != count || buckets.Counts[0] == 0 || buckets.Counts[len(buckets.Counts)-1] == 0 {
				t.Fatalf("buckets %v", buckets)
			}
			slices.Sort(c.ns)
			i, below := 0, uint64(0)
			for k, ns := range c.ns { // the k-th latency is the k-th count
				for below+buckets.Counts[i] <= uint64(k) {
					below += buckets.Counts[i]
					i++
				}
				lower := math.Exp2(float64(buckets.Offset+int32(i))/8) * 1e9
				upper := math.Exp2(float64(buckets.Offset+int32(i)+1)/8) * 1e9
				from, to := blockio.BucketBounds(blockio.Bucket(ns))
				if width := float64(to - from); float64(ns) < lower-width || float64(ns) > upper+width {
					t.Errorf("%d ns is in the bucket from %g to %g", ns, lower, upper)
				}
			}
		})
	}
}

// A latency that is a bound is in the bucket that ends with it.
func TestExponentialIndex(t *testing.T) {
	for ns, want := range map[uint64]int32{
		1_000_000_000: -1, 1_000_000_001: 0, 2_000_000_000: 7, 2_000_000_001: 8, 500_000_000: -9, 1: -240,
	} {
		if got := exponentialIndex(ns); got != want {
			t.Errorf("%d ns: %d, want %d", ns, got, want)
		}
	}
}
