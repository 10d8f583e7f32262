package export

import "github.com/otel-kprobe/otel-kprobe/internal/blockio"

// BlockTrackerSummary says what became of the requests and bios that came: each
// is emitted or open.
type BlockTrackerSummary struct {
	Open       uint64 `json:"open"`       // not emitted
	Emitted    uint64 `json:"emitted"`    // that became spans
	Evicted    uint64 `json:"evicted"`    // topmost ones emitted early, to make room
	Orphans    uint64 `json:"orphans"`    // emitted without their parent, whose record never came or had been emitted
	Unfinished uint64 `json:"unfinished"` // whose end was not seen
	Late       uint64 `json:"late"`       // orphans whose parent had been emitted
	Stranded   uint64 `json:"stranded"`   // merges and requeues whose request never came
}

// NewBlockTrackerSummary takes what a blockio.Tracker counted.
func NewBlockTrackerSummary(s blockio.Stats) BlockTrackerSummary {
	return BlockTrackerSummary{
		Open: s.Held, Emitted: s.EmittedRequests, Evicted: s.Evicted, Orphans: s.Orphans,
		Unfinished: s.Unfinished, Late: s.Late, Stranded: s.Stranded,
	}
}

// losses gives the counters of what was lost. Late ones are among the orphans.
func (t *BlockTrackerSummary) losses() []Count {
	return []Count{
		{"orphan requests", t.Orphans}, {"stranded records", t.Stranded}, {"evicted requests", t.Evicted},
	}
}

// HistogramSummary is a histogram of latencies in figures.
type HistogramSummary struct {
	Key   string `json:"key"` // NamedHistogram.Name
	Count uint64 `json:"count"`
	SumNs uint64 `json:"sum_ns"`
	P50Ns uint64 `json:"p50_ns"`
	P90Ns uint64 `json:"p90_ns"`
	P99Ns uint64 `json:"p99_ns"`
	MaxNs uint64 `json:"max_ns"` // 0 unknown
}

// NewHistogramSummaries takes the figures of histograms, in their order.
func NewHistogramSummaries(groups []NamedHistogram) []HistogramSummary {
	all := make([]HistogramSummary, 0, len(groups))
	for _, g := range groups {
		h := g.Histogram
		all = append(all, HistogramSummary{
			Key: g.Name, Count: h.Count, SumNs: h.SumNs, MaxNs: h.MaxNs,
			P50Ns: h.Quantile(0.5), P90Ns: h.Quantile(0.9), P99Ns: h.Quantile(0.99),
		})
	}
	return all
}
