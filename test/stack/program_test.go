package stack

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// binaryVariable names the otel-kprobe binary under test.
const binaryVariable = "OTEL_KPROBE_BIN"

// TestProgramTakesItsFlags lets otel-kprobe read the flags that its services are
// started with. With --help it does no more than that.
func TestProgramTakesItsFlags(t *testing.T) {
	binary := os.Getenv(binaryVariable)
	if binary == "" {
		t.Fatalf("%s is not set: build otel-kprobe and set it to the absolute path of the binary", binaryVariable)
	}
	tried := 0
	for name, s := range everything(t, composeFile) {
		if !strings.HasPrefix(name, "otel-kprobe-") {
			continue
		}
		tried++
		out, err := exec.CommandContext(t.Context(), binary, append(s.Command, "--help")...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "otel-kprobe "+s.Command[0]) {
			t.Errorf("otel-kprobe %v: %v\n%s", s.Command, err, out)
		}
	}
	if tried != 2 {
		t.Errorf("%d services run otel-kprobe, want 2", tried)
	}
}
