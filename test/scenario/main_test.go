//go:build vm

package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/otel-kprobe/otel-kprobe/test/truth"
)

// program is the path of the binary under test.
func program() string { return os.Getenv("OTEL_KPROBE_BIN") }

func TestMain(m *testing.M) {
	if status, ok := truth.Main(); ok {
		os.Exit(status)
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	// The first thread stays here, so that none of inNS's goroutines takes it to
	// another namespace for good: it cannot end like other threads.
	runtime.LockOSThread()
	if os.Geteuid() != 0 || program() == "" {
		fmt.Fprintln(os.Stderr, "scenario: run it as root in a VM, with OTEL_KPROBE_BIN: see test/kernels.sh")
		return 1
	}
	if err := setUpNetwork(); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		return 1
	}
	var err error
	if baseline, err = bpfObjects(); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		return 1
	}
	status := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		return 1
	}
	return status
}

// series is the running kernel's, as test/vm names it ("6.12").
func series(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + strings.TrimRight(minor, "-abcdefghijklmnopqrstuvwxyz")
}

// autoBackend is what `auto` has to choose on each kernel.
var autoBackend = map[string]string{
	"5.10": "kprobe",  // no FPROBE
	"6.1":  "kprobe",  // Debian builds it without FPROBE
	"6.12": "session", // 6.10+
	"7.3":  "session",
}

// backends are those under test on this kernel, auto first.
func backends(t *testing.T) []string {
	t.Helper()
	switch k := series(t); k {
	case "5.10", "6.1":
		return []string{"auto"}
	case "6.12":
		return []string{"auto", "multi", "kprobe"}
	case "7.3":
		return []string{"auto", "multi"}
	default:
		t.Fatalf("kernel %s is not in the tables of this package", k)
		return nil
	}
}

// command runs a program and returns what it wrote on both outputs.
func command(args ...string) (string, error) {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// must is command in a test that cannot go on without it.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// readText reads a file that must be there, without its last newline.
func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(b), "\n")
}
