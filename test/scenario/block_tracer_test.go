//go:build vm

package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// blockSummary is the file of --summary-file of a block run. A number of requests
// that is not there is 0.
type blockSummary struct {
	Requests   uint64            `json:"requests"`
	Submitted  uint64            `json:"requests_submitted"`
	InFlight   uint64            `json:"requests_in_flight"`
	Unsampled  uint64            `json:"unsampled"`
	Traces     uint64            `json:"traces"`
	Spans      uint64            `json:"spans"`
	Tracker    map[string]uint64 `json:"block_tracker"`
	KernelLost map[string]uint64 `json:"kernel_lost"`
	Histograms []struct {
		Key   string `json:"key"`
		Count uint64 `json:"count"`
		SumNs uint64 `json:"sum_ns"`
		P50Ns uint64 `json:"p50_ns"`
		MaxNs uint64 `json:"max_ns"`
	} `json:"histograms"`
}

// counts are the histograms' by their keys.
func (s *blockSummary) counts() map[string]uint64 {
	all := map[string]uint64{}
	for _, h := range s.Histograms {
		all[h.Key] += h.Count
	}
	return all
}

// launchBlock is launch for `block`.
func launchBlock(t *testing.T, args ...string) *tracer {
	t.Helper()
	return launchCommand(t, "block", args...)
}

// startBlock is launchBlock and waits until the probes are attached.
func startBlock(t *testing.T, args ...string) *tracer {
	t.Helper()
	tr := launchBlock(t, args...)
	tr.waitReady(t)
	return tr
}

// launchEach starts one tracer for each set of arguments, and waits until all
// of them are ready: they see the same requests.
func launchEach(t *testing.T, sets [][]string) []*tracer {
	t.Helper()
	var all []*tracer
	for _, args := range sets {
		all = append(all, launchBlock(t, args...))
	}
	for _, tr := range all {
		tr.waitReady(t)
	}
	return all
}

// readBlockSummary reads what a block run says of itself.
func readBlockSummary(t *testing.T, o *outcome) *blockSummary {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.dir, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &blockSummary{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatalf("read the summary: %v\n%s", err, text)
	}
	return s
}

// checkBlockSums holds a summary to the promise that nothing is lost unseen, and
// expects nothing lost: no ring is too small for what these tests do.
func checkBlockSums(t *testing.T, o *outcome) *blockSummary {
	t.Helper()
	s := readBlockSummary(t, o)
	if s.InFlight != 0 {
		t.Errorf("%d requests are in flight when all is over", s.InFlight)
	}
	if s.Submitted != s.Requests {
		t.Errorf("the kernel submitted %d requests, %d came", s.Submitted, s.Requests)
	}
	for name, count := range s.KernelLost {
		if count != 0 && name != "recursion_missed" {
			t.Errorf("kernel_lost %s is %d, want 0", name, count)
		}
	}
	for name, count := range s.Tracker {
		if count != 0 && name != "emitted" {
			t.Errorf("block_tracker %s is %d, want 0", name, count)
		}
	}
	for _, e := range o.summary.Exporters {
		if e.Spans != s.Spans || e.Exported != e.Spans {
			t.Errorf("%d spans were built; exporter %s: %+v", s.Spans, e.Name, e)
		}
	}
	return s
}
