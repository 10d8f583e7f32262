package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	// orderBytes is the body of an order, by --size.
	orderBytes = 65536
	// collectorInStack is where the stack's Collector takes spans.
	collectorInStack = "http://otel-collector:4317"
)

// applicationScript watches the application of demo/ while it is under load. The
// functions back, front and load, which run it, and the filter of packets come before.
// The load is given flags of its own: in emulation a request takes some 300 ms.
const applicationScript = `
await() {
	tries=0
	until "$@" 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 600 ]; then
			echo "waited in vain for: $*" >&2
			exit 1
		fi
		sleep 0.1
	done
}
serves() { bash -c ": </dev/tcp/127.0.0.1/$1"; }
trace() {
	what=$1
	shift
	exec /share/otel-kprobe "$what" --correlate child --otlp="$COLLECTOR" --exporter otlp \
		--ready-file "/tmp/$what" --summary-file "/out/$what.json" --duration 120s "$@"
}

mkfs.ext4 -q /dev/scratch
mkdir /data
mount /dev/scratch /data
echo "127.0.0.1 demo-back demo-front" >>/etc/hosts
back &
back=$!
front &
front=$!
await serves 8081
await serves 8080

trace packets --filter-func 'ip_output|ip_rcv|skb_copy_datagram_iter' "$FILTER" &
packets=$!
trace block --device /dev/scratch &
block=$!
await [ -e /tmp/packets ]
await [ -e /tmp/block ]

load --rate=3 --concurrency=2 --duration=6s --mix=root=1,order=3 --size=65536 &
wait $!
for process in $front $back $packets $block; do
	kill -TERM "$process"
	wait "$process"
done
`

// stackScript is applicationScript behind what it runs: the commands of docker-compose.yaml
// with their environment, and the filter of its otel-kprobe. The shell replaces variables
// as docker does.
func stackScript(t *testing.T, collector string) string {
	t.Helper()
	var compose struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
	}
	readYAML(t, "docker-compose.yaml", &compose)
	var config struct{ Packets struct{ Filter string } }
	readYAML(t, "deploy/otel-kprobe-stack.yaml", &config)
	var script strings.Builder
	fmt.Fprintf(&script, "#!/bin/sh\nset -eu\nCOLLECTOR=%s\nFILTER=\"%s\"\n", collector, config.Packets.Filter)
	for _, role := range []string{"back", "front", "load"} {
		service := compose.Services["demo-"+role]
		if len(service.Command) == 0 || service.Command[0] != role || !slices.Contains(slices.Collect(maps.Values(service.Environment)), collectorInStack) {
			t.Fatalf("docker-compose.yaml runs demo-%s as %q with %v, want it to send to %s", role, service.Command, service.Environment, collectorInStack)
		}
		fmt.Fprintf(&script, "%s() { exec env", role)
		for _, name := range slices.Sorted(maps.Keys(service.Environment)) {
			fmt.Fprintf(&script, ` "%s=%s"`, name, strings.ReplaceAll(service.Environment[name], collectorInStack, collector))
		}
		fmt.Fprintf(&script, ` /share/demo-app "%s" "$@"; }`+"\n", strings.Join(service.Command, `" "`))
	}
	return script.String() + applicationScript
}

// readYAML reads a file of the repository.
func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	root, err := RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestApplicationInJaeger runs the application of demo/ in a VM, and both kinds of
// traces beside it, and expects in Jaeger that each request's spans, its packets and what
// it wrote to the disk lead to one another. Its flags are those of docker-compose.yaml.
func TestApplicationInJaeger(t *testing.T) {
	s := startStack(t)
	share, out := t.TempDir(), t.TempDir()
	copyFile(t, filepath.Join(share, "otel-kprobe"), binaryUnderTest(t))
	buildDemo(t, filepath.Join(share, "demo-app"))
	if err := os.WriteFile(filepath.Join(share, "application.sh"), []byte(stackScript(t, inGuest(t, s.collector.GRPC))), 0o755); err != nil {
		t.Fatal(err)
	}
	runScript(t, share, out, "/share/application.sh")
	sent := s.collected(t)
	kept, err := AsJaegerKeeps(sent)
	if err != nil {
		t.Fatal(err)
	}
	spans := s.byID(t, sent)
	report(t, "Jaeger beside the Collector's file", Compare(kept, spans))
	a := newApplication(t, spans)
	checkClosing(t, a, readClosing(t, filepath.Join(out, "packets.json")), readClosing(t, filepath.Join(out, "block.json")))
	for _, r := range a.requests {
		t.Run(r.name(), func(t *testing.T) {
			a.checkSearch(t, s, r)
			a.checkBlock(t, r)
			a.checkSummaries(t, r)
		})
	}
	a.checkLinks(t)
	a.checkPackets(t)
}

// buildDemo builds the application as its container has it.
func buildDemo(t *testing.T, path string) {
	t.Helper()
	root, err := RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "-C", filepath.Join(root, "demo"), "build", "-trimpath", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, text)
	}
}

// closing is what a closing summary says of losses, and of what was sent.
type closing struct {
	Frames       uint64            `json:"frames"`
	Submitted    uint64            `json:"frames_submitted"`
	Tracked      uint64            `json:"skbs_tracked"`
	Requests     uint64            `json:"requests"`
	RequestsSent uint64            `json:"requests_submitted"`
	InFlight     uint64            `json:"requests_in_flight"`
	Spans        int               `json:"spans"`
	Summaries    int               `json:"summaries"`
	LeftOut      uint64            `json:"summaries_left_out"`
	Applications uint64            `json:"applications"`
	Unread       uint64            `json:"applications_unread"`
	KernelLost   map[string]uint64 `json:"kernel_lost"`
	Tracker      map[string]uint64 `json:"tracker"`
	BlockTracker map[string]uint64 `json:"block_tracker"`
	Exporters    []struct {
		Spans    int `json:"spans"`
		Exported int `json:"exported"`
	} `json:"exporters"`
}

func readClosing(t *testing.T, path string) (c closing) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

// checkClosing expects that nothing was lost, by what the runs say of themselves and by
// what came.
func checkClosing(t *testing.T, a *application, runs ...closing) {
	t.Helper()
	spans, summaries := 0, 0
	for i, c := range runs {
		for _, counters := range []map[string]uint64{c.KernelLost, c.Tracker, c.BlockTracker} {
			for name, count := range counters {
				if name == "recursion_missed" {
					t.Logf("run %d: the kernel left out %d probes", i, count)
					a.leftOut = min(mostLeftOut, a.leftOut+int(count))
				}
				// Of a probe that ran within another one nothing was promised.
				if count != 0 && name != "recursion_missed" && name != "emitted" {
					t.Errorf("run %d: %s is %d, want 0", i, name, count)
				}
			}
		}
		if c.KernelLost == nil || c.Tracker == nil || len(c.Exporters) != 1 || c.Exporters[0].Spans != c.Spans || c.Exporters[0].Exported != c.Spans {
			t.Errorf("run %d: %d spans were made, sent was %+v", i, c.Spans, c.Exporters)
		}
		if c.Frames != c.Submitted || c.Requests != c.RequestsSent || c.Tracked+c.InFlight+c.LeftOut+c.Unread != 0 || c.Applications != 1 {
			t.Errorf("run %d: %+v", i, c)
		}
		spans, summaries = spans+c.Spans, summaries+c.Summaries
	}
	if got := len(a.kernel); got != spans {
		t.Errorf("Jaeger has %d spans of the kernel, the runs made %d", got, spans)
	}
	if got := len(a.summaries); got != summaries || got == 0 {
		t.Errorf("Jaeger has %d summaries, the runs made %d", got, summaries)
	}
}
