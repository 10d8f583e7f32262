//go:build vm

package scenario

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// only expects exactly one request.
func only(t *testing.T, from []*request) *request {
	t.Helper()
	if len(from) != 1 {
		t.Fatalf("%d requests, want 1: %v", len(from), from)
	}
	return from[0]
}

// attributes are those of a span that a test compares.
func attributes(s *span, keys ...string) map[string]any {
	chosen := map[string]any{}
	for _, key := range keys {
		if value, ok := s.attrs[key]; ok {
			chosen[key] = value
		}
	}
	return chosen
}

// checkAttributes compares the attributes that are named in want; nil is one
// that must not be there.
func checkAttributes(t *testing.T, r *request, want map[string]any) {
	t.Helper()
	got, expected := map[string]any{}, map[string]any{}
	for key, value := range want {
		if v, ok := r.attrs[key]; ok {
			got[key] = v
		}
		if value != nil {
			expected[key] = value
		}
	}
	if diff := gocmp.Diff(expected, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", r, diff)
	}
}

func checkMediumError(t *testing.T, all []*request) {
	failed := pick(on(all, "sda"), func(r *request) bool { return r.failed || r.attrs[keyErrorType] != nil })
	r := only(t, failed)
	checkAttributes(t, r, map[string]any{
		keyOperation: "read", keySector: int64(badPage), keyBytes: int64(ioSize), keyBytesDone: int64(ioSize),
		keyErrorType: "BLK_STS_MEDIUM", keyDirection: "read", keyPID: int64(os.Getpid()), keyEnd: "complete",
	})
	if !r.failed || !strings.Contains(r.message, "BLK_STS_MEDIUM") {
		t.Errorf("status Error is %v, with message %q", r.failed, r.message)
	}
}

// delayShare is by how much a latency may differ from the driver's timer.
const delayShare = 0.05

func checkDelay(t *testing.T, all []*request) {
	var durations []float64
	for _, r := range by(on(all, "sda"), int64(os.Getpid())) {
		if r.operation() == "read" {
			durations = append(durations, float64(r.number(keyDuration)))
		}
	}
	if len(durations) != delayedReads {
		t.Fatalf("%d reads, want %d", len(durations), delayedReads)
	}
	// A virtual CPU that the host takes away makes others longer.
	if shortest := slices.Min(durations); shortest < scsiDelayNs*(1-delayShare) || shortest > scsiDelayNs*(1+delayShare) {
		t.Errorf("the shortest read takes %.0f ns, want %d within %.0f %%: %v", shortest, scsiDelayNs, 100*delayShare, durations)
	}
}

// checkRequeue expects reads that were refused to have an event for each attempt
// that failed, and to last from the first one.
func checkRequeue(t *testing.T, all []*request) {
	reads := pick(by(on(all, "sda"), int64(os.Getpid())), func(r *request) bool { return r.operation() == "read" })
	if len(reads) != requeuedReads {
		t.Fatalf("%d reads, want %d", len(reads), requeuedReads)
	}
	total := 0
	for _, r := range reads {
		attempts := r.named("requeue")
		total += len(attempts)
		if got := int(max(0, r.number(keyRequeues))); got != len(attempts) || r.failed {
			t.Errorf("%s has %d events of %d requeues; failed: %v", r, len(attempts), got, r.failed)
		}
	}
	if total < requeuedReads/3 {
		t.Errorf("%d reads were given back %d times, want at least %d", requeuedReads, total, requeuedReads/3)
	}
}

// checkMergeOfTwo expects one request of two processes' writes, which waited in
// the scheduler and names both.
func checkMergeOfTwo(t *testing.T, run *ioRun) {
	writes := operations(on(run.in("merge"), "sda"), "write")
	want := []outline{
		wrote("request", "sda", busySector, ioSize),
		wrote("request", "sda", mergedSector, 2*ioSize),
	}
	if diff := gocmp.Diff(want, outlines(writes)); diff != "" {
		t.Fatalf("writes (-want +got):\n%s", diff)
	}
	checkAttributes(t, writes[0], map[string]any{keyPID: run.pids["busy"], keyBios: nil})
	r := writes[1]
	checkAttributes(t, r, map[string]any{keyPID: run.pids["first"], keyThreadName: "dd", keyBios: int64(2)})
	if r.queue == nil || r.queue.number(keyScheduler) < mergeDelayNs/2 {
		t.Errorf("%s did not wait in the scheduler: %+v", r, r.queue)
	}
	merges := r.named("merge")
	if len(merges) != 1 {
		t.Fatalf("%d merged bios, want 1: %v", len(merges), merges)
	}
	got := attributes(&span{attrs: merges[0].attrs}, keyPID, keyThreadName, keySector, keyBytes)
	expected := map[string]any{
		keyPID: run.pids["second"], keyThreadName: "dd",
		keySector: int64(mergedSector + ioSize/sectorSize), keyBytes: int64(ioSize),
	}
	if diff := gocmp.Diff(expected, got); diff != "" {
		t.Errorf("the merged bio (-want +got):\n%s", diff)
	}
}

// checkMergeOfOne expects one request of what one process wrote in two bios.
func checkMergeOfOne(t *testing.T, run *ioRun) {
	writes := operations(on(run.in("merge"), run.scratch), "write")
	r := only(t, writes)
	checkAttributes(t, r, map[string]any{
		keySector: int64(pluggedSector), keyBytes: int64(2 * ioSize), keyBios: int64(2), keyThreadName: "dd",
	})
	for _, m := range r.named("merge") {
		if m.attrs[keyPID] != r.attrs[keyPID] {
			t.Errorf("process %v has a bio in %s of process %v", m.attrs[keyPID], r, r.attrs[keyPID])
		}
	}
}

// checkPartition expects the sector on the disk, both names, and the process
// that wrote, whoever handed the request to the driver.
func checkPartition(t *testing.T, run *ioRun) {
	r := only(t, by(run.in("partition"), run.pids["partition"]))
	checkAttributes(t, r, map[string]any{
		keyOperation: "write", keyDevice: string(run.scratch), keyPartition: string(run.scratch) + "p1",
		keySector: int64(partStart + partBlock*ioSize/sectorSize), keyBytes: int64(ioSize), keyBytesDone: nil,
		keyDirection: "write", keyThreadName: "dd", keyLevel: "request", keyWriteback: nil, keyErrorType: nil,
	})
	if !r.flag("sync") {
		t.Errorf("%s has flags %v, want sync among them", r, r.list(keyFlags))
	}
}

// checkFlush expects the write and the flush of the process that called fsync.
func checkFlush(t *testing.T, run *ioRun) {
	mine := by(run.in("flush"), run.pids["flush"])
	checkAttributes(t, only(t, operations(mine, "flush")), map[string]any{
		keyDevice: string(run.scratch), keySector: nil, keyDirection: nil, keyThreadName: "dd", keyErrorType: nil,
	})
	checkAttributes(t, only(t, operations(mine, "write")), map[string]any{
		keySector: int64(0), keyBytes: int64(ioSize), keyPartition: nil,
	})
}

// checkWriteback expects the file's bytes with the cgroup of the writer, as the
// kernel charged them, and with no process: it was a thread of the kernel that
// wrote.
func checkWriteback(t *testing.T, run *ioRun) {
	all := on(run.in("write-back"), run.scratch)
	sum := int64(0)
	for _, r := range pick(all, func(r *request) bool {
		return r.operation() == "write" && r.text(keyCgroup) == "/"+writerCgroup
	}) {
		checkAttributes(t, r, map[string]any{
			keyWriteback: true, keyDirection: "write", keyPID: nil, keyThreadName: nil, "thread.id": nil,
		})
		sum += r.number(keyBytes)
	}
	if sum != writebackBytes || sum != run.charged {
		t.Errorf("%d bytes were written back for the cgroup, want %d, of which io.stat has %d; lost: %v, %v", sum, writebackBytes, run.charged, run.summary.KernelLost, run.summary.Tracker)
		for _, r := range operations(all, "write") {
			t.Logf("%s: %v", r, r.attrs)
		}
	}
}

// passthroughOperation is what a SCSI command from user space is called: its
// own operations went with Linux 5.16.
var passthroughOperation = map[string]string{"5.10": "scsi_in", "6.1": "drv_in", "6.12": "drv_in", "7.3": "drv_in"}

func checkPassthrough(t *testing.T, run *ioRun) {
	mine := by(run.in("passthrough"), int64(os.Getpid()))
	sized := func(from []*request, bytes int64) []*request {
		return pick(from, func(r *request) bool { return r.number(keyBytes) == bytes })
	}
	r := only(t, sized(on(mine, "sda"), inquiryBytes))
	checkAttributes(t, r, map[string]any{keyOperation: passthroughOperation[series(t)], keyErrorType: nil})

	nvme := sized(operations(mine, "drv_in"), ioSize)
	checkAttributes(t, only(t, on(nvme, run.scratch)), map[string]any{keyErrorType: nil})
	only(t, pick(nvme, func(r *request) bool { return r.text(keyDevice) != string(run.scratch) }))
}

// checkWholeHistogram expects each request to be counted once, and none of those
// that stand for others below them.
func checkWholeHistogram(t *testing.T, run *ioRun) {
	leaves := uint64(len(pick(flat(run.requests), func(r *request) bool { return len(r.children) == 0 })))
	if got := run.summary.counts()[""]; got != leaves {
		t.Errorf("the histogram has %d latencies, want those of %d requests", got, leaves)
	}
	if got := sumOfRows(t, run.stdout); got != leaves {
		t.Errorf("the rows show %d requests, want %d:\n%s", got, leaves, run.stdout)
	}
}

// checkBlockReplay expects the recording to give the very bytes of the live run,
// to a user without privilege, and the console's formats to show the same.
func checkBlockReplay(t *testing.T, run *ioRun) {
	live, err := os.ReadFile(run.output())
	if err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	recording, path := filepath.Join(dir, "recording"), filepath.Join(dir, "spans")
	if err := copyFile(run.recording(), recording); err != nil {
		t.Fatal(err)
	}
	replayTo := func(args ...string) string {
		o := runAs(t, nobody, append(append([]string{"replay"}, args...), recording)...)
		if o.exit != 0 {
			t.Errorf("replay %q: exit status %d\n%s", args, o.exit, o.stderr)
		}
		return o.stdout
	}
	replayTo("--exporter", "file", "--output", path)
	replayed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(live, replayed) {
		t.Errorf("the replay differs from the live run: %s", firstDifference(live, replayed))
	}
	checkBlockFormats(t, run, replayTo)
}

func checkBlockFormats(t *testing.T, run *ioRun, replayTo func(args ...string) string) {
	t.Helper()
	requests := uint64(len(flat(run.requests)))
	header, table, _ := strings.Cut(replayTo("--exporter", "console", "--format", "lines"), "\n")
	if n := uint64(strings.Count(table, "\n")); n != requests {
		t.Errorf("--format lines shows %d requests, want %d", n, requests)
	}
	for _, column := range []string{"TIME", "COMM", "PID", "DISK", "SECTOR", "BYTES", "QUE(ms)", "LAT(ms)"} {
		if !strings.Contains(header, column) {
			t.Errorf("--format lines has no column %s: %q", column, header)
		}
	}
	objects := uint64(0)
	for line := range strings.Lines(replayTo("--exporter", "console", "--format", "json")) {
		var o struct {
			Name  string `json:"name"`
			Trace string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Name == "" || o.Trace == "" {
			t.Errorf("--format json: %v in %q", err, line)
		}
		objects++
	}
	if objects != run.summary.Spans {
		t.Errorf("--format json shows %d spans, want %d", objects, run.summary.Spans)
	}
	tree := replayTo("--exporter", "console", "--format", "tree")
	for _, text := range []string{"block write", "block flush", string(run.scratch), "BLK_STS_MEDIUM", "dm-0"} {
		if !strings.Contains(tree, text) {
			t.Errorf("--format tree lacks %q", text)
		}
	}
}
