package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	top        = "../.."
	unitFile   = top + "/deploy/systemd/otel-kprobe.service"
	dropInFile = top + "/deploy/systemd/perf-events.conf"
)

// capabilities are what docs/kernels.md asks for on Linux 6.12 and later, and
// CAP_SYS_PTRACE. TestServiceRights of test/scenario traces with these alone.
func capabilities() []string {
	return []string{"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_PTRACE"}
}

// named returns what a variable names, and skips the test where it names nothing.
func named(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s is not set: run make check-deploy", variable)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// output runs a program that has to succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// settings returns the values of each key of a unit, in their order (systemd.syntax(7);
// ours continue no lines).
func settings(t *testing.T, path string) map[string][]string {
	t.Helper()
	values := make(map[string][]string)
	for line := range strings.Lines(readFile(t, path)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsAny(line[:1], "#;[") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasSuffix(value, `\`) {
			t.Fatalf("%s: cannot read %q", path, line)
		}
		values[key] = append(values[key], value)
	}
	return values
}

// withProgram copies a file, with another program in place of the packaged one.
func withProgram(t *testing.T, path, program string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), filepath.Base(path))
	text := strings.ReplaceAll(readFile(t, path), "/usr/bin/otel-kprobe", program)
	if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// What is installed for the service and for pods is a configuration of the program.
func TestConfigurations(t *testing.T) {
	program := named(t, "OTEL_KPROBE_BIN")
	t.Setenv("NODE_NAME", "node-1") // as the DaemonSet does
	for _, path := range []string{"service.yaml", "otel-kprobe.yaml", "kubernetes/otel-kprobe.yaml"} {
		output(t, program, "run", "--config", filepath.Join(top, "deploy", path), "--check-config")
	}
}
