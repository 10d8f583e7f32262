//go:build vm

package scenario

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

const (
	histogramReads  = 64 // of fio, on the NVMe disk
	histogramWrites = 10 // of this process, on null_blk
)

// TestBlockHistogram counts the same requests by each key, in the kernel alone,
// and holds the numbers to /proc/diskstats.
func TestBlockHistogram(t *testing.T) {
	loadBlockModules(t)
	makeCgroup(t, writerCgroup)
	null, nvme := nullDisk(t, 0, nil), scratch(t)
	member := gate(t, ioSize, 1, null.node(), "oflag=direct")
	member.join(t, writerCgroup)
	comm := strings.TrimSpace(readText(t, "/proc/"+strconv.Itoa(os.Getpid())+"/comm"))

	tests := []struct {
		by   string
		want map[string]uint64
	}{
		{"device", map[string]uint64{"device " + string(nvme): histogramReads, "device " + string(null): histogramWrites + 1}},
		{"op", map[string]uint64{"op read": histogramReads, "op write": histogramWrites + 1}},
		{"cgroup", map[string]uint64{"cgroup /": histogramReads + histogramWrites, "cgroup /" + writerCgroup: 1}},
		{"process", map[string]uint64{"process fio": histogramReads, "process " + comm: histogramWrites, "process dd": 1}},
	}
	sets := make([][]string, len(tests))
	for i, test := range tests {
		sets[i] = []string{"--histogram-only", "--by", test.by, "--device", string(null), "--device", string(nvme)}
	}
	tracers := launchEach(t, sets)
	counted := countRequests(t, null, nvme, member)
	if want, total := uint64(histogramReads+histogramWrites+1), counted.total(); total != want {
		t.Errorf("/proc/diskstats counts %d requests, want %d: %v", total, want, counted)
	}
	for i, test := range tests {
		t.Run("by "+test.by, func(t *testing.T) { checkHistogram(t, tracers[i], test.want) })
	}
	checkClean(t)
}

// countRequests makes the requests, none of which flushes or merges.
func countRequests(t *testing.T, null, nvme disk, member *gatedWriter) ioCounts {
	t.Helper()
	before := [2]ioCounts{readDiskStats(t, null), readDiskStats(t, nvme)}
	must(t, "fio", "--name=reads", "--thread=1", "--output=/dev/null", "--filename="+nvme.node(), "--direct=1",
		"--ioengine=psync", "--rw=randread", "--bs=4k", "--size=64m", "--number_ios="+strconv.Itoa(histogramReads))
	for i := range uint64(histogramWrites) {
		writeDirect(t, null.node(), 8*i, ioSize)
	}
	member.finish(t)
	sum := readDiskStats(t, null).since(before[0])
	for operation, count := range readDiskStats(t, nvme).since(before[1]) {
		sum.add(operation, count.Requests, count.Bytes)
	}
	return sum
}

// checkHistogram compares the counts of the summary with those that are wanted,
// and the rows on the terminal with the counts.
func checkHistogram(t *testing.T, tr *tracer, want map[string]uint64) {
	o := tr.stop(t)
	s := readBlockSummary(t, o)
	if diff := gocmp.Diff(want, s.counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	for _, h := range s.Histograms {
		if h.P50Ns == 0 || h.P50Ns > h.MaxNs || h.SumNs < h.MaxNs {
			t.Errorf("the numbers of %q contradict each other: %+v", h.Key, h)
		}
	}
	total := uint64(0)
	for _, n := range want {
		total += n
	}
	if s.Requests != total || s.Submitted != 0 || s.Traces != 0 || s.Spans != 0 {
		t.Errorf("%d requests were counted, want %d; %d records, %d traces and %d spans came, want none",
			s.Requests, total, s.Submitted, s.Traces, s.Spans)
	}
	if got := sumOfRows(t, o.stdout); got != total {
		t.Errorf("the rows show %d requests, want %d:\n%s", got, total, o.stdout)
	}
	for key, count := range want {
		title := key + ", latency in µs\n"
		if _, after, ok := strings.Cut(o.stdout, title); !ok || !strings.Contains(after, "count "+strconv.FormatUint(count, 10)+",") {
			t.Errorf("no histogram %q with count %d:\n%s", title, count, o.stdout)
		}
	}
}

// histogramRow is a row of bpftrace's hist(): "[512, 1K)   70 |@@@@   |".
var histogramRow = regexp.MustCompile(`^\[[0-9]+[KMG]?(?:\]|, [0-9]+[KMG]?\)) +([0-9]+) \|@* *\|$`)

func sumOfRows(t *testing.T, text string) uint64 {
	t.Helper()
	sum := uint64(0)
	for line := range strings.Lines(text) {
		m := histogramRow.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// TestBlockInterval expects the histogram of each interval, and one of them all
// at the end, from a run that ends by itself.
func TestBlockInterval(t *testing.T) {
	nvme := scratch(t)
	tr := startBlock(t, "--histogram-only", "--interval", "500ms", "--duration", "2s", "--device", string(nvme))
	const writes = 5
	before := readDiskStats(t, nvme)
	for i := range uint64(writes) {
		writeDirect(t, nvme.node(), 8*i, ioSize)
		time.Sleep(100 * time.Millisecond)
	}
	if counted := readDiskStats(t, nvme).since(before).total(); counted != writes {
		t.Errorf("/proc/diskstats counts %d requests, want %d", counted, writes)
	}
	o := tr.end(t)
	if o.exit != 0 {
		t.Errorf("exit status %d\n%s", o.exit, o.stderr)
	}
	if diff := gocmp.Diff(map[string]uint64{"": writes}, readBlockSummary(t, o).counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if got := sumOfRows(t, o.stdout); got != 2*writes {
		t.Errorf("the rows of the intervals and of the whole show %d requests, want %d twice:\n%s", got, writes, o.stdout)
	}
}
