package vm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestArgs(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		want []string
	}{
		{name: "zero is all defaults"},
		{
			name: "every option",
			spec: Spec{
				Kernel: "5.10", Share: "in", Out: "out", Env: []string{"A=1", "B="}, ICount: true, Peers: true, Docker: true,
				SMP: 1, MemMB: 512, Scratch: 1024, Append: "a=b c", Console: "log", Timeout: 1500 * time.Millisecond,
			},
			want: []string{
				"--kernel", "5.10", "--share", "in", "--out", "out", "--smp", "1", "--mem", "512",
				"--scratch", "1024", "--append", "a=b c", "--console", "log", "--timeout", "2", "--env", "A=1", "--env", "B=",
				"--icount", "--peers", "--docker",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.spec.args()); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKernelsAreThoseOfTheScripts(t *testing.T) {
	list, err := exec.Command("./images.sh", "list").Output()
	if err != nil {
		t.Fatalf("images.sh list: %v", err)
	}
	if diff := cmp.Diff(strings.Fields(string(list)), Kernels()); diff != "" {
		t.Errorf("Kernels (-images.sh +Go):\n%s", diff)
	}
}

func TestRunReturnsStatusOutputAndFiles(t *testing.T) {
	boots(t)
	out := t.TempDir()
	var stdout, stderr bytes.Buffer
	exit, err := Run(t.Context(), Spec{Out: out, Env: []string{"A=x y"}, Stdout: &stdout, Stderr: &stderr, Timeout: 5 * time.Minute},
		"sh", "-c", `echo "$A"; echo wrong >&2; echo left >/out/file; exit 125`)
	if err != nil || exit != 125 {
		t.Fatalf("Run = %d, %v; want the command's own 125 and no error", exit, err)
	}
	if diff := cmp.Diff([]string{"x y\n", "wrong\n"}, []string{stdout.String(), stderr.String()}); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	file, err := os.ReadFile(filepath.Join(out, "file"))
	if err != nil || string(file) != "left\n" {
		t.Errorf("file from /out = %q, %v", file, err)
	}
}

func TestRunTellsAPanicFromAStatus(t *testing.T) {
	boots(t)
	_, err := Run(t.Context(), Spec{Timeout: 5 * time.Minute}, "sh", "-c", "echo c >/proc/sysrq-trigger")
	if !errors.Is(err, ErrMachine) || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("Run error = %v, want an ErrMachine that names the panic", err)
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	boots(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	start := time.Now()
	_, err := Run(ctx, Spec{}, "sleep", "1000")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run error = %v, want the context's", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("Run returned %v after a 3 s context began", took)
	}
}

// boots skips the test in short mode: it takes seconds, and on first use a
// minute to build the images.
func boots(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a virtual machine: run without -short")
	}
}
