// Package e2e proves that what otel-kprobe sends is what real back-ends keep:
// it runs the OpenTelemetry Collector and Jaeger that test/backends/build.sh
// builds, reads the spans back from both, and compares them with the spans the
// sender wrote to its own file, nanosecond by nanosecond.
//
// Everything listens on 127.0.0.1 at free ports, so that tests may run side by
// side; a guest of QEMU's user network reaches the same ports at 10.0.2.2.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Tools that ToolPath provides.
const (
	ToolCollector = "collector"
	ToolJaeger    = "jaeger"
	// ToolJaegerPage is a directory, for JaegerOptions.Page.
	ToolJaegerPage = "jaeger-ui"
	ToolJaeger2    = "jaeger2"
)

// RepositoryRoot returns the absolute path of the checkout that this package
// was compiled from.
func RepositoryRoot() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("find the checkout: build the test without -trimpath")
	}
	return filepath.Join(filepath.Dir(file), "..", ".."), nil
}

// ToolPath returns the path of a back-end's binary and builds it first where the
// cache has none, which takes minutes: give ctx a deadline to match. The error
// holds the build's output.
func ToolPath(ctx context.Context, tool string) (string, error) {
	root, err := RepositoryRoot()
	if err != nil {
		return "", err
	}
	script := filepath.Join(root, "test", "backends", "build.sh")
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, script, tool)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s with %s: %w\n%s", tool, script, err, lastLines(stderr.String(), 20))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// lastLines returns the last n lines of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
