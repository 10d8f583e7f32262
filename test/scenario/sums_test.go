//go:build vm

package scenario

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

// checkSums holds the summary to the promise that nothing is lost unseen: what
// the kernel submitted is what was exported and what was counted, and nothing is
// tracked once the traffic is over.
func checkSums(t *testing.T, o *outcome, exporter string) {
	t.Helper()
	s := &o.summary
	if s.Tracked == nil || s.Submitted == nil {
		t.Fatalf("the summary lacks skbs_tracked or frames_submitted: %+v", s)
	}
	if *s.Tracked != 0 {
		t.Errorf("%d skbs are still tracked after the traffic", *s.Tracked)
	}
	if *s.Submitted != s.Frames+s.KernelLost["damaged_records"] {
		t.Errorf("the kernel submitted %d frames, %d came, %d were damaged", *s.Submitted, s.Frames, s.KernelLost["damaged_records"])
	}
	counted := s.Tracker["late_frames"] + s.Tracker["left_frames"] + s.FramesPassedOver
	if built := s.Spans - s.Traces - s.Waits - s.Summaries - s.Copied; s.Frames != built+counted {
		t.Errorf("%d frames came, %d became spans and %d were counted as lost or passed over", s.Frames, built, counted)
	}
	if s.Tracker["open"] != 0 {
		t.Errorf("%d journeys were never emitted", s.Tracker["open"])
	}
	for _, e := range s.Exporters {
		if e.Name != exporter {
			continue
		}
		if e.Spans != s.Spans || e.Spans != e.Exported+e.Dropped+e.Rejected+e.Failed+e.Unsent {
			t.Errorf("%d spans were built; exporter %s: %+v", s.Spans, e.Name, e)
		}
		return
	}
	t.Errorf("the summary lacks exporter %s: %+v", exporter, s.Exporters)
}

// checkNothingLost is for traffic that no ring and no queue is too small for. A
// recursion miss is no loss of a frame that was promised: the kernel left a
// probe out, and counts it.
func checkNothingLost(t *testing.T, o *outcome) {
	t.Helper()
	for name, count := range o.summary.KernelLost {
		if count == 0 {
			continue
		}
		if name == "recursion_missed" {
			t.Logf("the kernel left out %d probes", count)
			continue
		}
		t.Errorf("kernel_lost %s is %d, want 0", name, count)
	}
	for name, count := range o.summary.Tracker {
		if count != 0 {
			t.Errorf("tracker %s is %d, want 0", name, count)
		}
	}
	for _, e := range o.summary.Exporters {
		if e.Exported != e.Spans {
			t.Errorf("exporter %s lost spans: %+v", e.Name, e)
		}
	}
}

// checkLossesExplained expects of what a journey misses that the kernel side has counted
// it as lost, or that it came late: a thread that is preempted for long returns after its
// journey was emitted.
func checkLossesExplained(t *testing.T, o *outcome) {
	t.Helper()
	explained := o.summary.Tracker["late_frames"]
	for _, name := range []string{"ring_full_frames", "ring_full_facts", "ring_full_ends", "slots_full", "returns_lost"} {
		explained += o.summary.KernelLost[name]
	}
	for _, name := range []string{"lost_frames", "lost_starts", "lost_ends"} {
		if n := o.summary.Tracker[name]; n > explained {
			t.Errorf("%s is %d, of which %d were counted as lost in the kernel or late", name, n, explained)
		}
	}
}

// countSpans counts the spans in a file without holding it in memory.
func countSpans(t *testing.T, path string) (spans, traces uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 16<<20)
	for {
		line, err := lines.ReadSlice('\n')
		spans += uint64(bytes.Count(line, []byte(`"startTimeUnixNano":`)))
		if err == nil {
			traces++
			continue
		}
		if errors.Is(err, io.EOF) {
			return spans, traces
		}
		// A line longer than the buffer goes on; a key that the cut divides
		// would be missed, so none may be that long.
		t.Fatalf("%s: %v", path, err)
	}
}
