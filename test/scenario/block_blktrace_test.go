//go:build vm

package scenario

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// dispatched identifies a request as blktrace and the spans both have it.
type dispatched struct {
	Sector, Bytes uint64
	Operation     string
}

// blkRequest is one request from D (issued to the driver) to C (complete).
type blkRequest struct {
	dispatched
	issueNs, completeNs uint64 // since the first event
}

// blkTrace is what blktrace saw of a disk.
type blkTrace struct {
	requests []blkRequest // in the order of issue
	empty    uint64       // bios without data that ask for a flush
}

// All four kernels have CONFIG_BLK_DEV_IO_TRACE=y and debugfs.

// droppedFile is how many events blktrace has not taken from the kernel in time.
func droppedFile(d disk) string { return "/sys/kernel/debug/block/" + string(d) + "/dropped" }

// startBlktrace traces a disk; the function that it returns ends it and reads
// the requests.
func startBlktrace(t *testing.T, d disk) func() blkTrace {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("blktrace", "-d", d.node(), "-D", dir, "-o", "disk")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an error says that it has ended already
		_ = cmd.Wait()
	})
	await(t, droppedFile(d), true)
	for deadline := time.Now().Add(nodeWithin); readText(t, d.sysfs("trace", "enable")) != "1"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("blktrace does not start on %s", d)
		}
	}
	time.Sleep(200 * time.Millisecond) // it is set up, and then started
	return func() blkTrace {
		if dropped := readText(t, droppedFile(d)); dropped != "0" {
			t.Errorf("blktrace dropped %s events", dropped)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its status tells of the signal
		text := must(t, "blkparse", "-q", "-D", dir, "-i", "disk", "-f", `%a %d %T.%9t %S %N\n`)
		return parseBlktrace(t, text)
	}
}

// parseBlktrace pairs each D with its C. What completes without having been
// dispatched is part of the flush machinery: the write that asked for a flush.
func parseBlktrace(t *testing.T, text string) (trace blkTrace) {
	t.Helper()
	open := map[dispatched][]int{} // indices in the requests, oldest first
	for line := range strings.Lines(text) {
		var action, rwbs string
		var seconds, nanoseconds, sector, bytes uint64
		if len(line) < 2 || !slices.Contains([]string{"Q ", "D ", "C "}, line[:2]) {
			continue
		}
		if _, err := fmt.Sscanf(line, "%s %s %d.%d %d %d", &action, &rwbs, &seconds, &nanoseconds, &sector, &bytes); err != nil {
			t.Fatalf("read %q of blkparse: %v", line, err)
		}
		now, key := seconds*1e9+nanoseconds, dispatched{sector, bytes, operationOf(rwbs)}
		waiting := open[key]
		switch {
		case action == "Q" && bytes == 0 && strings.HasPrefix(rwbs, "F"):
			trace.empty++
		case action == "D":
			open[key] = append(waiting, len(trace.requests))
			trace.requests = append(trace.requests, blkRequest{dispatched: key, issueNs: now})
		case action == "C" && len(waiting) > 0:
			trace.requests[waiting[0]].completeNs = now
			open[key] = waiting[1:]
		}
	}
	for _, r := range trace.requests {
		if r.completeNs == 0 {
			t.Errorf("blktrace shows no end of %+v\n%s", r, text)
		}
	}
	return trace
}

// operationOf reads blkparse's letters: D discards, W writes (zeroes, too), R
// reads, and N moves nothing; F before them asks for a flush.
func operationOf(rwbs string) string {
	switch {
	case strings.Contains(rwbs, "N"):
		return "flush"
	case strings.HasPrefix(rwbs, "D"):
		return "discard"
	case strings.Contains(rwbs, "W"):
		return "write"
	default:
		return "read"
	}
}

// The bound between our latencies and blktrace's, on the median: both look at
// the same two tracepoints, one after the other.
const (
	blktraceShare = 0.02
	blktraceNs    = 20_000
)

// tellsBlktrace says whether a kernel tells blktrace of a request: through the
// interface that blktrace 1.3 speaks 7.3 reports neither write_zeroes nor writes
// with FUA.
var tellsBlktrace = map[string]func(*request) bool{
	"5.10": everyRequest,
	"6.1":  everyRequest,
	"6.12": everyRequest,
	"7.3":  func(r *request) bool { return r.operation() != "write_zeroes" && !r.flag("fua") },
}

func everyRequest(*request) bool { return true }

// checkBlktrace holds requests to blktrace's of the same time: the same ones,
// and the same latencies.
func checkBlktrace(t *testing.T, requests []*request, theirs []blkRequest) {
	t.Helper()
	requests = pick(requests, tellsBlktrace[series(t)])
	ours := map[dispatched][]float64{}
	var gotKeys, wantKeys []dispatched
	for _, r := range requests {
		key := dispatched{uint64(max(0, r.number(keySector))), uint64(max(0, r.number(keyBytes))), asCounted(r)}
		ours[key] = append(ours[key], float64(r.number(keyDuration)))
		gotKeys = append(gotKeys, key)
	}
	for _, r := range theirs {
		wantKeys = append(wantKeys, r.dispatched)
	}
	if diff := gocmp.Diff(sortDispatched(wantKeys), sortDispatched(gotKeys)); diff != "" {
		t.Errorf("requests differ from blktrace's (-blktrace +spans):\n%s", diff)
		return
	}
	var differences, latencies []float64
	for _, r := range theirs { // both in the order of issue
		latency := float64(r.completeNs - r.issueNs)
		difference := ours[r.dispatched][0] - latency
		ours[r.dispatched] = ours[r.dispatched][1:]
		differences, latencies = append(differences, max(difference, -difference)), append(latencies, latency)
	}
	difference, latency := median(differences), median(latencies)
	t.Logf("%d requests, median latency %.0f ns, median difference from blktrace %.0f ns", len(latencies), latency, difference)
	if bound := max(blktraceNs, blktraceShare*latency); difference > bound {
		t.Errorf("latencies differ from blktrace's by %.0f ns on the median, want at most %.0f", difference, bound)
	}
}

func sortDispatched(keys []dispatched) []dispatched {
	slices.SortFunc(keys, func(a, b dispatched) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Sector, b.Sector), cmp.Compare(a.Bytes, b.Bytes))
	})
	return keys
}

// median is of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
