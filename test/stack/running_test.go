package stack

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otel-kprobe/otel-kprobe/test/e2e"
	"github.com/otel-kprobe/otel-kprobe/test/vm"
)

const (
	// toolsBudget leaves room for a cold cache, as in package e2e.
	toolsBudget = 30 * time.Minute
	// guestBudget is five times what the guest takes on two idle processors.
	guestBudget = 40 * time.Minute
	standIns    = "test/stack/testdata"
	// certificates are what Dockerfile takes from where it compiles.
	certificates = "/etc/ssl/certs/ca-certificates.crt"
)

// Keys of the page's tags: docs/spans.md.
const (
	appTraceKey   = "otel_kprobe.app.trace_id"
	dropReasonKey = "otel_kprobe.drop.reason"
	operationKey  = "otel_kprobe.block.operation"
	flagsKey      = "otel_kprobe.block.flags"
)

// TestStackRuns starts docker-compose.yaml in a VM with dockerd, by the command that the
// file begins with, and expects of its Jaeger what a user looks for there: requests of
// the application, their packets, what they wrote to the disk, and why a packet was
// dropped. testdata/standins.yaml says which images are not those of the registry.
func TestStackRuns(t *testing.T) {
	share, out := t.TempDir(), t.TempDir()
	fillShare(t, share)
	ctx, cancel := context.WithTimeout(t.Context(), guestBudget+time.Minute)
	defer cancel()
	services := everything(t, composeFile)
	exit, err := vm.Run(ctx, vm.Spec{
		Docker: true, Share: share, Out: out, MemMB: 4096, Scratch: 2048,
		Env: []string{
			"BUSYBOX=" + services["backend"].Image, "JAEGER=" + services["jaeger"].Image,
			"COLLECTOR=" + services["otel-collector"].Image,
		},
		Stdout: t.Output(), Stderr: t.Output(), Timeout: guestBudget,
	}, "bash", "/share/checkout/"+standIns+"/running.sh")
	if err != nil || exit != 0 {
		t.Fatalf("status %d, %v", exit, err)
	}

	requests := newRequests(t, readAnswer(t, out, "requests"))
	requests.checkLinked(t, "packets", readAnswer(t, out, "packets"))
	blocks := readAnswer(t, out, "blocks")
	requests.checkLinked(t, "block requests", blocks)
	requests.checkFsync(t, blocks)
	checkDrop(t, readAnswer(t, out, "drops"))
	// After docker compose restart, of an otel-kprobe that had to find everything anew.
	requests.checkLinked(t, "packets after the restart", readAnswer(t, out, "restarted"))
}

// fillShare puts into the guest's share what its script starts: the checkout, as far as
// docker compose reads it, and what images are made of.
func fillShare(t *testing.T, share string) {
	t.Helper()
	checkout := filepath.Join(share, "checkout")
	for _, path := range []string{
		"Dockerfile", ".dockerignore", ".env", composeFile, "collector-config.yaml", "deploy", standIns,
	} {
		copyTree(t, filepath.Join(checkout, path), filepath.Join(root, path))
	}
	ctx, cancel := context.WithTimeout(t.Context(), toolsBudget)
	defer cancel()
	for name, tool := range map[string]string{"otelcol-contrib": e2e.ToolCollector, "jaeger": e2e.ToolJaeger2} {
		path, err := e2e.ToolPath(ctx, tool)
		if err != nil {
			t.Fatal(err)
		}
		copyTree(t, filepath.Join(share, "tools", name), path)
	}
	if err := os.MkdirAll(filepath.Join(share, "stages", "source"), 0o755); err != nil {
		t.Fatal(err)
	}
	stage := filepath.Join(share, "stages", "build-otel-kprobe")
	copyTree(t, filepath.Join(stage, "src", "bin", "otel-kprobe"), binaryUnderTest(t))
	copyTree(t, filepath.Join(stage, certificates), certificates)
	// As stage build-demo of Dockerfile does.
	build := exec.CommandContext(ctx, "go", "-C", filepath.Join(root, "demo"), "build", "-trimpath", "-ldflags", "-s -w",
		"-o", filepath.Join(share, "stages", "build-demo", "out", "demo-app"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, text)
	}
}

// copyTree copies a file, or a directory with all that is in it.
func copyTree(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else {
		var content []byte
		if content, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, content, info.Mode().Perm())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readAnswer reads what Jaeger answered to one of the guest's searches, which found
// something.
func readAnswer(t *testing.T, out, name string) []e2e.PageTrace {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(out, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	traces, err := e2e.DecodePageTraces(body)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(traces) == 0 {
		t.Errorf("Jaeger has no %s", name)
	}
	return traces
}

// spanKey is a span by its ids.
type spanKey struct{ trace, span string }

// requests are the spans of the application, with the service of each.
type requests map[spanKey]string

// newRequests expects requests that went all the way.
func newRequests(t *testing.T, traces []e2e.PageTrace) requests {
	t.Helper()
	r := requests{}
	whole := 0
	for _, trace := range traces {
		services := map[string]bool{}
		for _, span := range trace.Spans {
			service := trace.Processes[span.ProcessID].ServiceName
			services[service] = true
			r[spanKey{span.TraceID, span.SpanID}] = service
		}
		if services["demo-load"] && services["demo-front"] && services["demo-back"] {
			whole++
		}
	}
	t.Logf("%d of %d requests went from load to front to back", whole, len(traces))
	if whole == 0 {
		t.Error("no trace has spans of demo-load, demo-front and demo-back")
	}
	return r
}

// causes are the spans of the application that a trace of the kernel has links to.
func (r requests) causes(trace e2e.PageTrace) (causes []spanKey) {
	for _, span := range trace.Spans {
		for _, reference := range span.References {
			key := spanKey{reference.TraceID, reference.SpanID}
			if _, ok := r[key]; ok {
				causes = append(causes, key)
			}
		}
	}
	return causes
}

// checkLinked expects of each trace that names an application to have a link to a span
// that Jaeger has, and that there are such.
func (r requests) checkLinked(t *testing.T, what string, traces []e2e.PageTrace) {
	t.Helper()
	linked := 0
	for _, trace := range traces {
		root := rootOf(t, trace)
		id := root.Tag(appTraceKey)
		if id == nil {
			continue
		}
		if !slices.ContainsFunc(r.causes(trace), func(k spanKey) bool { return k.trace == id }) {
			t.Errorf("%s: %s of trace %s names trace %v of the application, and leads to %+v", what, root.OperationName, root.TraceID, id, root.References)
			continue
		}
		linked++
	}
	t.Logf("%s: %d of %d lead to a request", what, linked, len(traces))
	if linked == 0 {
		t.Errorf("%s: none leads to a request", what)
	}
}

// checkFsync expects a write that somebody waits for, caused by a span of demo-back: the
// body of an order.
func (r requests) checkFsync(t *testing.T, blocks []e2e.PageTrace) {
	t.Helper()
	for _, trace := range blocks {
		root := rootOf(t, trace)
		flags, _ := root.Tag(flagsKey).(string)
		if root.Tag(operationKey) != "write" || !strings.Contains(flags, `"sync"`) {
			continue
		}
		for _, cause := range r.causes(trace) {
			if r[cause] == "demo-back" {
				return
			}
		}
	}
	t.Errorf("of %d block requests none is a synchronous write in a span of demo-back", len(blocks))
}

// checkDrop expects the packet that the guest sent to a port where nobody listens.
func checkDrop(t *testing.T, drops []e2e.PageTrace) {
	t.Helper()
	for _, trace := range drops {
		if rootOf(t, trace).Tag(dropReasonKey) == "NO_SOCKET" {
			return
		}
	}
	t.Errorf("of %d dropped packets none is without a socket", len(drops))
}

// rootOf is the only span of a trace of the kernel that has no parent.
func rootOf(t *testing.T, trace e2e.PageTrace) e2e.PageSpan {
	t.Helper()
	var roots []e2e.PageSpan
	for _, span := range trace.Spans {
		if _, below := span.Parent(); !below {
			roots = append(roots, span)
		}
	}
	if len(roots) != 1 {
		t.Fatalf("a trace of %d spans has the roots %+v, want one", len(trace.Spans), roots)
	}
	return roots[0]
}
