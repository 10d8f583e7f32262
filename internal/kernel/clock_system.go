package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// systemClock reads the clocks of the machine.
type systemClock struct{}

// MonoNs returns CLOCK_MONOTONIC in nanoseconds.
func (systemClock) MonoNs() int64 { return readClock(unix.CLOCK_MONOTONIC) }

// RealNs returns CLOCK_REALTIME in nanoseconds.
func (systemClock) RealNs() int64 { return readClock(unix.CLOCK_REALTIME) }

func readClock(id int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0 // both clocks exist on every Linux; the pointer is good
	}
	return ts.Nano()
}

func isCanceled(err error) bool { return errors.Is(err, unix.ECANCELED) }

// timeNamespaceShift returns by how much CLOCK_MONOTONIC in this process is
// ahead of the kernel's own, in nanoseconds: zero outside time namespaces
// (time_namespaces(7)) and on kernels without them (before 5.6). The file
// speaks of the namespace of children, so it counts only when that is ours.
func timeNamespaceShift(procSelf string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(procSelf, "timens_offsets"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read offset of the time namespace: %w", err)
	}
	own, err := os.Readlink(procSelf + "/ns/time")
	if err != nil {
		return 0, fmt.Errorf("read time namespace: %w", err)
	}
	children, err := os.Readlink(procSelf + "/ns/time_for_children")
	if err != nil {
		return 0, fmt.Errorf("read time namespace: %w", err)
	}
	if own != children {
		return 0, nil
	}
	return parseTimeOffsets(data)
}

// parseTimeOffsets reads "monotonic SECONDS NANOSECONDS" of timens_offsets.
func parseTimeOffsets(data []byte) (int64, error) {
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) != 3 || string(f[0]) != "monotonic" {
			continue
		}
		sec, err1 := strconv.ParseInt(string(f[1]), 10, 64)
		nsec, err2 := strconv.ParseInt(string(f[2]), 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("read offset of the time namespace: %w", err)
		}
		return sec*1e9 + nsec, nil
	}
	return 0, nil
}
