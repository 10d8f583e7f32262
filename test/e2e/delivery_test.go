package e2e

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/otel-kprobe/otel-kprobe/test/vm"
)

const (
	// binaryVariable names the otel-kprobe binary under test. It has to run in a
	// Debian guest: static, or built against an older glibc.
	binaryVariable = "OTEL_KPROBE_BIN"
	// hostInGuest is the host's loopback in QEMU's user network.
	hostInGuest = "10.0.2.2"
	pings       = 3
	// vmTimeout covers the first build of kernel and root file system, which
	// happens inside vm.Run and takes minutes.
	vmTimeout = 5 * time.Minute
	runBudget = 20 * time.Minute
	// clockSlack is how far the guest's clock may be from the host's.
	clockSlack = time.Minute
)

// guestScript starts the command that follows $1, the Collector's endpoint, runs
// the function cause, and ends it. --duration only ends it should that hang.
const guestScript = `set -eu
collector=$1
shift
/share/otel-kprobe "$@" --exporter otlp,file --otlp="$collector" --output /out/spans.jsonl \
	--ready-file /tmp/ready --duration 120s &
tracer=$!
until [ -e /tmp/ready ]; do
	if ! kill -0 "$tracer" 2>/dev/null; then
		status=0
		wait "$tracer" || status=$?
		echo "otel-kprobe ended with status $status before it was ready" >&2
		exit 1
	fi
	sleep 0.1
done
cause
kill -TERM "$tracer"
wait "$tracer"
`

// TestDelivery traces pings in a VM whose otel-kprobe sends to a Collector on
// the host, which forwards to Jaeger, and expects the same spans, to the
// nanosecond, in otel-kprobe's own file, the Collector's file and Jaeger.
func TestDelivery(t *testing.T) {
	binary := binaryUnderTest(t)
	s := startStack(t)
	before := time.Now()
	ping := "ping -q -i 0.3 -c " + strconv.Itoa(pings) + " " + hostInGuest
	sent := runInVM(t, binary, ping, s.collector.GRPC, "packets", "icmp")
	after := time.Now()
	checkPings(t, sent, before.Add(-clockSlack), after.Add(clockSlack))
	if t.Failed() {
		return
	}
	service, ok := sent[0].Resource["service.name"].(string)
	if !ok {
		t.Fatalf("resource %v has no service.name", sent[0].Resource)
	}
	report(t, "Collector beside otel-kprobe's file", Compare(sent, s.collected(t)))
	kept, err := AsJaegerKeeps(sent)
	if err != nil {
		t.Fatal(err)
	}
	report(t, "Jaeger beside otel-kprobe's file", Compare(kept, s.inJaeger(t, service, sent)))
}

// binaryUnderTest returns the path of the otel-kprobe to test and fails the test
// without one: a delivery that nobody tested must not look tested.
func binaryUnderTest(t *testing.T) string {
	t.Helper()
	path := os.Getenv(binaryVariable)
	if path == "" {
		t.Fatalf("%s is not set: build otel-kprobe and set it to the absolute path of the binary", binaryVariable)
	}
	if !filepath.IsAbs(path) {
		t.Fatalf("%s is %q: set it to an absolute path, the test runs in its own directory", binaryVariable, path)
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		t.Fatalf("%s is %q, which is no executable file (%v): build otel-kprobe first", binaryVariable, path, err)
	}
	return path
}

// runInVM runs otel-kprobe with args in a VM, and what causes the spans meanwhile,
// a command of the shell. It returns the spans that otel-kprobe wrote to its file.
func runInVM(t *testing.T, binary, cause, collector string, args ...string) []Span {
	t.Helper()
	share, out := t.TempDir(), t.TempDir()
	copyFile(t, filepath.Join(share, "otel-kprobe"), binary)
	if err := os.WriteFile(filepath.Join(share, "deliver.sh"), []byte("#!/bin/sh\ncause() { "+cause+"; }\n"+guestScript), 0o755); err != nil {
		t.Fatal(err)
	}
	runScript(t, share, out, append([]string{"/share/deliver.sh", inGuest(t, collector)}, args...)...)
	traces, err := ReadTracesFile(filepath.Join(out, "spans.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return Flatten(traces)
}

// inGuest is the URL at which a guest reaches a "host:port" of this package.
func inGuest(t *testing.T, address string) string {
	t.Helper()
	port, err := Port(address)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + hostInGuest + ":" + strconv.Itoa(port)
}

// runScript runs a command in a VM that has the directory share and leaves its files in
// out, and expects it to succeed.
func runScript(t *testing.T, share, out string, command ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runBudget)
	defer cancel()
	var output bytes.Buffer
	exit, err := vm.Run(ctx, vm.Spec{
		Kernel: "6.12", Share: share, Out: out, Stdout: &output, Stderr: &output, Timeout: vmTimeout,
	}, command...)
	if err != nil {
		t.Fatalf("%v\n%s", err, lastLines(output.String(), 30))
	}
	if exit != 0 {
		t.Fatalf("the guest's script ended with status %d:\n%s", exit, lastLines(output.String(), 30))
	}
	t.Logf("guest:\n%s", lastLines(output.String(), 15))
}

// checkPings checks that the spans are what pinging leaves: a trace per packet
// and direction, each with one root, all children inside, at a time that both
// clocks can agree on. Without it two empty files would be equal.
func checkPings(t *testing.T, spans []Span, notBefore, notAfter time.Time) {
	t.Helper()
	roots := make(map[string]int)
	rootsOf := make(map[string]int)
	functions := make(map[string]bool)
	ids := make(map[string]bool)
	for _, span := range spans {
		ids[span.TraceID+span.SpanID] = true
	}
	for _, span := range spans {
		if span.ParentSpanID == "" {
			roots[span.Name]++
			rootsOf[span.TraceID]++
		} else if !ids[span.TraceID+span.ParentSpanID] {
			t.Errorf("span %s (%s) has a parent that its trace does not hold", span.SpanID, span.Name)
		}
		if function, ok := span.Attributes["code.function.name"].(string); ok {
			functions[function] = true
		}
		if span.StartUnixNs >= span.EndUnixNs {
			t.Errorf("span %s (%s): start %d is not before end %d", span.SpanID, span.Name, span.StartUnixNs, span.EndUnixNs)
		}
		if span.StartUnixNs < uint64(notBefore.UnixNano()) || span.EndUnixNs > uint64(notAfter.UnixNano()) {
			t.Errorf("span %s (%s): %d to %d ns is outside the run, %v to %v",
				span.SpanID, span.Name, span.StartUnixNs, span.EndUnixNs, notBefore, notAfter)
		}
	}
	for _, name := range []string{"packet tx icmp", "packet rx icmp"} {
		if roots[name] < pings {
			t.Errorf("%d roots named %q, want at least %d; roots: %v", roots[name], name, pings, roots)
		}
	}
	for _, id := range TraceIDs(spans) {
		if rootsOf[id] != 1 {
			t.Errorf("trace %s has %d roots, want 1", id, rootsOf[id])
		}
	}
	// One function of each direction that no kernel inlines.
	for _, function := range []string{"__dev_queue_xmit", "icmp_rcv"} {
		if !functions[function] {
			t.Errorf("no span has code.function.name %s", function)
		}
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
