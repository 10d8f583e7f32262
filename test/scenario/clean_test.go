//go:build vm

package scenario

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cleanWithin is how long the kernel may take to free what a process held: it
// detaches in the background.
const cleanWithin = 30 * time.Second

func itoa(i int) string { return strconv.Itoa(i) }

// checkClean expects the kernel to be as if nothing had ever been attached: no
// probed function, no kprobe, no BPF program, map or link. This machine runs
// nothing else that has any.
func checkClean(t *testing.T) {
	t.Helper()
	var left string
	for deadline := time.Now().Add(cleanWithin); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if left = leftBehind(t); left == "" {
			return
		}
	}
	t.Errorf("left behind in the kernel: %s", left)
}

func leftBehind(t *testing.T) string {
	t.Helper()
	var left []string
	for _, path := range []string{
		filepath.Join(tracefs, "enabled_functions"), "/sys/kernel/debug/kprobes/list",
		filepath.Join(tracefs, "kprobe_events"),
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 0 {
			left = append(left, fmt.Sprintf("%d lines in %s: %.1000s", n, path, text))
		}
	}
	objects, err := bpfObjects()
	if err != nil {
		t.Fatal(err)
	}
	for kind, n := range objects {
		if n > baseline[kind] {
			left = append(left, fmt.Sprintf("%d BPF %s", n-baseline[kind], kind))
		}
	}
	return strings.Join(left, ", ")
}

// baseline is how many BPF objects the kernel had before the first test: some
// load their own (HID-BPF). TestMain sets it.
var baseline map[string]int

// bpfObjects counts all BPF objects of the kernel that have to go with a run.
func bpfObjects() (map[string]int, error) {
	counts := map[string]int{}
	for kind, command := range map[string]int{
		"programs": unix.BPF_PROG_GET_NEXT_ID, "maps": unix.BPF_MAP_GET_NEXT_ID, "links": unix.BPF_LINK_GET_NEXT_ID,
	} {
		n, err := countBPF(command)
		if err != nil {
			return nil, fmt.Errorf("list BPF %s: %w", kind, err)
		}
		counts[kind] = n
	}
	// The map with the spans of applications stays, on purpose.
	if _, err := os.Stat(appContextsPath); err == nil {
		counts["maps"]--
	}
	return counts, nil
}

// countBPF walks the ids of one kind of objects (bpf(2), BPF_*_GET_NEXT_ID).
func countBPF(command int) (int, error) {
	var attr [12]byte // u32 start_id, next_id, open_flags
	for n := 0; ; n++ {
		_, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if errno == unix.ENOENT {
			return n, nil
		}
		if errno != 0 {
			return 0, errno
		}
		copy(attr[:4], attr[4:8])
		binary.NativeEndian.PutUint32(attr[4:], 0)
	}
}

// attachedFunctions are the lines that tell of probed functions.
func attachedFunctions(t *testing.T) []string {
	t.Helper()
	return strings.Fields(readText(t, filepath.Join(tracefs, "enabled_functions")))
}
