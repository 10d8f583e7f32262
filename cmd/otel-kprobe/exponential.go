package main

import (
	"math"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
)

// latencyScale makes 8 exponential buckets of a power of two, each 9 % wide,
// where the counts are known to a 16th: close to it, and half as many to send.
const latencyScale = 3

// exponentialBuckets puts the counts of h into base-2 exponential buckets of
// latencyScale, those of one bucket together. count is their sum, as OTLP wants
// it: while the kernel counts, it may be ahead of h.Count or behind.
func exponentialBuckets(h *blockio.Histogram) (b metricdata.ExponentialBucket, count uint64) {
	for i, n := range &h.Counts {
		if n == 0 {
			continue
		}
		index := exponentialIndex(middleNs(h, i))
		if count == 0 {
			b.Offset = index
		}
		for b.Offset+int32(len(b.Counts)) <= index {
			b.Counts = append(b.Counts, 0)
		}
		b.Counts[index-b.Offset] += n
		count += n
	}
	return b, count
}

// middleNs is the latency that stands for those of bucket i: its midpoint, or
// what of the range from MinNs to MaxNs is nearest to it. It is never 0.
func middleNs(h *blockio.Histogram, i int) uint64 {
	from, to := blockio.BucketBounds(i)
	if i == blockio.Buckets-1 {
		to = max(from, h.MaxNs) // it has no upper end
	}
	middle := from + (to-from)/2
	if h.MaxNs != 0 {
		middle = min(max(middle, h.MinNs), h.MaxNs)
	}
	return middle
}

// exponentialIndex is the bucket of a latency above 0: i has what is above
// base^i and up to base^(i+1) seconds, base being the 8th root of 2
// (https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram).
func exponentialIndex(ns uint64) int32 {
	return int32(math.Ceil(math.Ldexp(math.Log2(seconds(ns)), latencyScale))) - 1
}

func seconds(ns uint64) float64 { return float64(ns) / float64(time.Second) }
