//go:build vm

package scenario

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// ioCount is how many requests completed and how much they moved.
type ioCount struct{ Requests, Bytes uint64 }

// ioCounts are those of one disk by operation. A flush moves nothing.
type ioCounts map[string]ioCount

func (c ioCounts) add(operation string, requests, bytes uint64) {
	sum := c[operation]
	c[operation] = ioCount{sum.Requests + requests, sum.Bytes + bytes}
}

// total is the number of requests, of all operations.
func (c ioCounts) total() uint64 {
	sum := uint64(0)
	for _, count := range c {
		sum += count.Requests
	}
	return sum
}

// readDiskStats reads a disk's line of /proc/diskstats
// (Documentation/admin-guide/iostats.rst).
func readDiskStats(t *testing.T, d disk) ioCounts {
	t.Helper()
	for line := range strings.Lines(readText(t, "/proc/diskstats") + "\n") {
		var major, minor int
		var name string
		var v [17]uint64
		fields := []any{&major, &minor, &name}
		for i := range v {
			fields = append(fields, &v[i])
		}
		if _, err := fmt.Sscan(line, fields...); err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		if name == string(d) {
			return ioCounts{
				"read": {v[0], v[2] * sectorSize}, "write": {v[4], v[6] * sectorSize},
				"discard": {v[11], v[13] * sectorSize}, "flush": {v[15], 0},
			}
		}
	}
	t.Fatalf("/proc/diskstats lacks %s", d)
	return nil
}

// since is what has been added to an earlier count.
func (c ioCounts) since(earlier ioCounts) ioCounts {
	difference := ioCounts{}
	for operation, now := range c {
		before := earlier[operation]
		if now != before {
			difference[operation] = ioCount{now.Requests - before.Requests, now.Bytes - before.Bytes}
		}
	}
	return difference
}

// asCounted is the operation as which the kernel counts a request.
func asCounted(r *request) string {
	if operation := r.operation(); operation != "write_zeroes" {
		return operation
	}
	return "write"
}

// checkDiskStats holds requests to what the kernel counted of a disk meanwhile.
// A flush that is asked for alone travels in a write without data, which the
// kernel counts although no driver ever sees it: the flush that serves it is the
// request. There were so many empty ones.
func checkDiskStats(t *testing.T, requests []*request, counted ioCounts, empty uint64) {
	t.Helper()
	got := ioCounts{}
	if empty > 0 {
		got.add("write", empty, 0)
	}
	for _, r := range requests {
		got.add(asCounted(r), 1, uint64(max(0, r.number(keyBytes))))
	}
	if diff := gocmp.Diff(counted, got); diff != "" {
		t.Errorf("requests and /proc/diskstats differ (-diskstats +requests):\n%s", diff)
	}
}

// writtenBy is how many bytes the kernel has charged to a cgroup for writing to
// a disk.
func writtenBy(t *testing.T, cgroup string, d disk) int64 {
	t.Helper()
	for line := range strings.Lines(readText(t, filepath.Join(cgroupRoot, cgroup, "io.stat")) + "\n") {
		for _, field := range strings.Fields(line) {
			text, ok := strings.CutPrefix(field, "wbytes=")
			if !ok || !strings.HasPrefix(line, d.number(t)+" ") {
				continue
			}
			bytes, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return bytes
		}
	}
	return 0
}
