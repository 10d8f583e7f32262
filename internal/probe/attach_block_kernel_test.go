//go:build vm

package probe

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// The kernels that tests run on are 6.12 and older, or 7.3.
func TestKernelPreemptsTracepoints(t *testing.T) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(unix.ByteSliceToString(uts.Release[:]), ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	types, err := kernel.ReadVmlinuxBTF("", kernel.BTFDir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := kernel.ReadBlockSignatures(types).Preempted, major >= 7; got != want {
		t.Errorf("tracepoints of Linux %d are preempted: %v, want %v", major, got, want)
	}
}
