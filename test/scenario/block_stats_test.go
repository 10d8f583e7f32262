//go:build vm && block

package scenario

import (
	"fmt"
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

// checkDiskStats holds requests to what the kernel counted of a disk meanwhile.
// A flush that is asked for alone travels in an empty write, which the kernel
// counts although no driver ever sees it: only the flush that serves it is a
// request. A flush for a write that has data is asked for by that write.
func checkDiskStats(t *testing.T, requests []*request, counted ioCounts) {
	t.Helper()
	got := ioCounts{}
	for _, r := range requests {
		operation := r.operation()
		got.add(operation, 1, uint64(max(0, r.number(keyBytes))))
		switch {
		case operation == "flush":
			got.add("write", 1, 0)
		case operation == "write" && r.flag("preflush"):
			got.add("write", ^uint64(0), 0) // less one
		}
	}
	for operation, count := range got {
		if count == (ioCount{}) {
			delete(got, operation)
		}
	}
	if diff := gocmp.Diff(counted, got); diff != "" {
		t.Errorf("requests and /proc/diskstats differ (-diskstats +requests):\n%s", diff)
	}
}
