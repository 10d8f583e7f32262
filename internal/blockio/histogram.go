package blockio

import (
	"math"
	"math/bits"
)

// Buckets is how many buckets a Histogram has.
const Buckets = 512

// A bucket is 1/16 of a power of two of units of 1/16 µs, so no latency is off
// by more than 1/16. The kernel side counts into the same ones.
const (
	perOctave     = 16
	perOctaveBits = 4
)

// Bucket returns the index of the bucket of a latency. The last bucket, from
// about 2,080 s on, has no upper end.
func Bucket(ns uint64) int {
	q := ns/125*2 + ns%125*2/125 // ns*2/125 without overflow
	if q < perOctave {
		return int(q)
	}
	k := bits.Len64(q) - 1
	return min((k-perOctaveBits+1)*perOctave+int(q>>(k-perOctaveBits)&(perOctave-1)), Buckets-1)
}

// BucketBounds returns the latencies of a bucket, from the first to before the
// second. The last bucket ends at the largest number.
func BucketBounds(i int) (fromNs, toNs uint64) {
	if i >= Buckets-1 {
		return bucketFrom(Buckets - 1), math.MaxUint64
	}
	return bucketFrom(i), bucketFrom(i + 1)
}

// bucketFrom returns the smallest latency of a bucket.
func bucketFrom(i int) uint64 {
	q := uint64(max(i, 0))
	if i >= perOctave {
		q = uint64(perOctave+i%perOctave) << (i/perOctave - 1)
	}
	return (125*q + 1) / 2
}

// Histogram counts latencies in nanoseconds. The zero Histogram is empty and
// ready for use.
type Histogram struct {
	Counts [Buckets]uint64 // by Bucket
	Count  uint64
	SumNs  uint64
	MinNs  uint64 // means nothing when Count is 0
	MaxNs  uint64 // 0 unknown: then MinNs is unknown too
}

// Add counts one latency.
func (h *Histogram) Add(ns uint64) {
	if h.Count == 0 || ns < h.MinNs {
		h.MinNs = ns
	}
	h.MaxNs = max(h.MaxNs, ns)
	h.Counts[Bucket(ns)]++
	h.Count++
	h.SumNs += ns
}

// Merge adds what another histogram counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.Count == 0 {
		return
	}
	if h.Count == 0 || o.MinNs < h.MinNs {
		h.MinNs = o.MinNs
	}
	h.MaxNs = max(h.MaxNs, o.MaxNs)
	for i, n := range &o.Counts {
		h.Counts[i] += n
	}
	h.Count += o.Count
	h.SumNs += o.SumNs
}

// Minus takes off what had been counted earlier, so that h holds the interval
// since. MinNs and MaxNs become those of the buckets, within those of the whole
// time: the exact ones of the interval are not known.
func (h *Histogram) Minus(earlier *Histogram) {
	first, last := -1, 0
	h.Count = 0
	for i := range h.Counts {
		// A count read while the kernel counts may be behind its neighbours.
		h.Counts[i] -= min(h.Counts[i], earlier.Counts[i])
		if h.Counts[i] == 0 {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
		h.Count += h.Counts[i]
	}
	h.SumNs -= min(h.SumNs, earlier.SumNs)
	if first < 0 {
		h.SumNs, h.MinNs, h.MaxNs = 0, 0, 0
		return
	}
	from, _ := BucketBounds(first)
	_, to := BucketBounds(last)
	h.MinNs = max(h.MinNs, from)
	if h.MaxNs == 0 {
		h.MaxNs = to - 1
	}
	h.MaxNs = min(h.MaxNs, to-1)
}

// Quantile estimates the latency in nanoseconds below which the share q (0 to
// 1) of all lies: interpolated within its bucket, and never outside MinNs and
// MaxNs where they are known. It is 0 when nothing was counted.
func (h *Histogram) Quantile(q float64) (ns uint64) {
	if h.Count == 0 {
		return 0
	}
	rank := min(max(q, 0), 1) * float64(h.Count)
	seen := 0.0
	for i, n := range &h.Counts {
		if n == 0 || seen+float64(n) < rank {
			seen += float64(n)
			continue
		}
		from, to := BucketBounds(i)
		if i == Buckets-1 {
			to = max(from, h.MaxNs)
		}
		ns = to
		if share := (rank - seen) / float64(n); share < 1 {
			ns = from + uint64(float64(to-from)*share)
		}
		break
	}
	if h.MaxNs != 0 {
		ns = min(max(ns, h.MinNs), h.MaxNs)
	}
	return ns
}

// Row is one line of a histogram of powers of two: latencies in microseconds
// from FromUs to before ToUs.
type Row struct {
	FromUs, ToUs uint64
	Count        uint64
}

// Rows returns the counts by powers of two of microseconds as bpftrace's hist()
// has them: 0, 1, 2 to 3, 4 to 7 … From the first row with a count to the last,
// none left out between them; nil when nothing was counted.
func (h *Histogram) Rows() []Row {
	var rows []Row
	empty := 0 // of those at the end
	for i := 0; i < Buckets; i += perOctave {
		r := Row{ToUs: 1 << (i / perOctave)}
		if i > 0 {
			r.FromUs = r.ToUs / 2
		}
		for _, n := range h.Counts[i : i+perOctave] {
			r.Count += n
		}
		switch {
		case r.Count > 0:
			empty = 0
		case rows == nil:
			continue
		default:
			empty++
		}
		rows = append(rows, r)
	}
	return rows[:len(rows)-empty]
}
