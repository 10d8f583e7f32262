package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// recordedPings is what TestReplayLayers of the program replays, too.
const recordedPings = "cmd/otel-kprobe/testdata/ping.okrec"

// TestServicesPerLayer replays pings with --services-per-layer to the Collector and
// expects in Jaeger, besides the same spans to the nanosecond, what the flag is for:
// each layer is a service that the page offers, and a trace is one tree of spans of
// several processes, all of the same host.
func TestServicesPerLayer(t *testing.T) {
	binary := binaryUnderTest(t)
	s := startStack(t)
	sent := replayTo(t, binary, s.collector.GRPC, recordedPings, "--services-per-layer")
	services := map[string]bool{}
	for _, span := range sent {
		name, _ := span.Resource["service.name"].(string)
		services[name] = true
	}
	for _, name := range []string{"otel-kprobe", "kernel ip", "kernel device", "kernel icmp", "kernel wait"} {
		if !services[name] {
			t.Errorf("no span of service %q was sent, only of %v", name, services)
		}
	}
	report(t, "Collector beside otel-kprobe's file", Compare(sent, s.collected(t)))
	kept, err := AsJaegerKeeps(sent)
	if err != nil {
		t.Fatal(err)
	}
	report(t, "Jaeger beside otel-kprobe's file", Compare(kept, s.inJaeger(t, "otel-kprobe", sent)))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	offered, err := s.client.Services(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name := range services {
		if !slices.Contains(offered, name) {
			t.Errorf("Jaeger offers no service %q, only %q", name, offered)
		}
	}
	for _, id := range TraceIDs(sent) {
		trace, err := s.client.PageTrace(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		checkProcesses(t, id, trace)
		checkTree(t, id, trace)
	}
}

// replayTo sends a recording, by its path in the repository, to a Collector and
// returns the spans that otel-kprobe wrote to its file. The machine that was recorded
// had no host.id: the environment gives one, and nothing else of this host's.
func replayTo(t *testing.T, binary, collector, recording string, flags ...string) []Span {
	t.Helper()
	root, err := RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	args := append([]string{"replay", "--exporter", "otlp,file", "--otlp=http://" + collector, "--output", path}, flags...)
	cmd := exec.Command(binary, append(args, filepath.Join(root, recording))...)
	cmd.Env = []string{"OTEL_RESOURCE_ATTRIBUTES=host.id=recorded"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	traces, err := ReadTracesFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Flatten(traces)
}

// fewestLayers is what any ping passes: the trace's own, and three of the kernel's.
const fewestLayers = 4

// checkProcesses expects a process for each service, all of the same host.
func checkProcesses(t *testing.T, id string, trace PageTrace) {
	t.Helper()
	names := map[string]bool{}
	first := trace.Processes[trace.Spans[0].ProcessID]
	for key, p := range trace.Processes {
		names[p.ServiceName] = true
		for _, tag := range []string{"host.name", "host.id"} {
			if got, want := p.Tag(tag), first.Tag(tag); got == nil || got != want {
				t.Errorf("trace %s: process %s (%s) has %s %v, another one %v", id, key, p.ServiceName, tag, got, want)
			}
		}
	}
	if len(names) < fewestLayers || len(names) != len(trace.Processes) {
		t.Errorf("trace %s has %d processes of %d services, want one a service and %d or more",
			id, len(trace.Processes), len(names), fewestLayers)
	}
}

// checkTree expects one tree across the processes: a root of the program's own
// service, parents that are there, some of them of another process.
func checkTree(t *testing.T, id string, trace PageTrace) {
	t.Helper()
	processOf := map[string]string{}
	for _, span := range trace.Spans {
		processOf[span.SpanID] = span.ProcessID
	}
	roots, crossings := 0, 0
	for _, span := range trace.Spans {
		if len(span.Warnings) > 0 {
			t.Errorf("trace %s: Jaeger warns of span %s (%s): %q", id, span.SpanID, span.OperationName, span.Warnings)
		}
		parent, ok := span.Parent()
		if !ok {
			roots++
			if name := trace.Processes[span.ProcessID].ServiceName; name != "otel-kprobe" {
				t.Errorf("trace %s: the root %s is of service %q", id, span.OperationName, name)
			}
			continue
		}
		switch process, ok := processOf[parent.SpanID]; {
		case !ok || parent.TraceID != id:
			t.Errorf("trace %s: span %s (%s) has a parent that its trace does not hold", id, span.SpanID, span.OperationName)
		case process != span.ProcessID:
			crossings++
		}
	}
	if roots != 1 || crossings < fewestLayers {
		t.Errorf("trace %s has %d roots, want 1, and %d parents of another service, want %d or more",
			id, roots, crossings, fewestLayers)
	}
}
