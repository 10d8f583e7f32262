package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/filter"
	"go.opentelemetry.io/otel/attribute"
)

// The file means what flags mean, and the environment fills in.
func TestServiceConfig(t *testing.T) {
	path := write(t, "c.yaml", []byte(`
packets:
  filter_ifname: ${IF:-eth0}
  only: [drops, "slow=1ms"]
  skb_fields: skb->hash,skb->mark
  payload: 64
  ring_size: 65536
block:
  required: false
  op: [read, write]
  min_latency: 10ms
  by: device
export:
  exporters: [otlp, file]
  otlp_endpoint: collector
  file: out.jsonl
  correlate: child
  services_per_layer: true
service: {name: edge, attributes: {team: net, rack: 7}}
metrics: {interval: 1m}
health: {listen: ":9464"}
`))
	c, err := readServiceConfig(path, lookup(map[string]string{"IF": "eth1"}))
	if err != nil {
		t.Fatal(err)
	}
	type picked struct {
		Ifname, Endpoint, File, Correlate, Listen, BlockEndpoint string
		PacketsOnly, BlockOnly                                   onlyRules
		Fields, Operations                                       []string
		Payload, Ring                                            int
		MinLatency, MetricsEvery                                 time.Duration
		PerLayer, OTLP, Required, BlockRequired                  bool
		Named                                                    []attribute.KeyValue
	}
	got := picked{
		Ifname: c.packets.ifname, Endpoint: c.output.endpoint, File: c.output.path, Correlate: c.block.output.correlate,
		Listen: c.listen, BlockEndpoint: c.block.output.endpoint,
		PacketsOnly: c.packets.output.only, BlockOnly: c.block.output.only,
		Fields: c.packets.extras.fields, Operations: c.block.operations,
		Payload: c.packets.extras.payload, Ring: c.packets.run.ringBytes,
		MinLatency: c.block.minLatency, MetricsEvery: c.metricsEvery,
		PerLayer: c.output.perLayer, OTLP: c.output.otlp,
		Required: c.required(sectionPackets), BlockRequired: c.required(sectionBlock), Named: c.named,
	}
	want := picked{
		Ifname: "eth1", Endpoint: "http://collector:4317", File: "out.jsonl", Correlate: "child",
		Listen: "127.0.0.1:9464", BlockEndpoint: "http://collector:4317",
		PacketsOnly: onlyRules{drops: true, slow: true, slowNs: 1e6},
		Fields:      []string{"skb->hash", "skb->mark"}, Operations: []string{"read", "write"},
		Payload: 64, Ring: 65536, MinLatency: 10 * time.Millisecond, MetricsEvery: time.Minute,
		PerLayer: true, OTLP: true, Required: true,
		Named: []attribute.KeyValue{attribute.String("service.name", "edge"), attribute.String("rack", "7"), attribute.String("team", "net")},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(onlyRules{}), cmp.Comparer(func(a, b attribute.KeyValue) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Histograms alone have no use for a file, which packets have.
func TestServiceHistogramOnly(t *testing.T) {
	path := write(t, "c.yaml", []byte("block: {histogram_only: true}\nexport: {exporters: [file], file: f, correlate: 'off'}\n"))
	c, err := readServiceConfig(path, lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	if !c.output.file || !c.block.histogramOnly || !c.block.outputs().noSpans {
		t.Errorf("output %+v, block %+v", c.output, c.block)
	}
	path = write(t, "d.yaml", []byte("packets: {enabled: false}\nblock: {histogram_only: true}\n"))
	if c, err = readServiceConfig(path, lookup(nil)); err != nil {
		t.Fatal(err)
	}
	if c.packets != nil || !c.output.noSpans || c.output.console {
		t.Errorf("packets %v, output %+v", c.packets, c.output)
	}
}

// Each mistake is one sentence with its place, in the words of the file.
func TestServiceConfigErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"key", "packets: {filtr: x}", `:1:11: unknown key "filtr": section packets has enabled,`},
		{"function", "packets:\n  filter_func: '['\n", ":2:16: read filter_func: "},
		{"mark", "packets: {filter_mark: zz}", ":1:24: read filter_mark: "},
		{"sample", "block: {sample: 1/0}", `:1:17: read sample: "1/0" is neither 1/N nor a ratio`},
		{"ring", "packets: {ring_size: 3}", ":1:22: read ring_size: 3 is not a power of two"},
		{"only of block", "block: {only: [drops]}", ":1:15: read only: block requests are not dropped"},
		{"device", "block: {device: [there-is-none]}", `:1:17: read device: find block device "there-is-none"`},
		{"two keys", "packets: {non_skb_funcs: x, entry_only: true}", ":1:26: read non_skb_funcs: what runs within a function cannot be told without its return: leave entry_only away"},
		{"exporter", "export: {exporters: [foo]}", `:1:21: read export.exporters: "foo" is none of console, otlp, file`},
		{"endpoint", "export: {otlp_endpoint: 'ftp://x'}", `:1:25: read otlp_endpoint: scheme "ftp" is neither http nor https`},
		{"format", "export: {exporters: [otlp], format: json}", ":1:37: read export.format: nothing goes to the console"},
		{"nothing", "packets: {enabled: false}\nblock: {enabled: false}\n", ":1:20: neither packets nor block is enabled"},
		{"interval", "metrics: {interval: 10ms}", ":1:21: read interval: 10ms is shorter than 1s"},
		{"address", "health: {listen: 9464}", `:1:18: read listen: "9464" is no HOST:PORT`},
		{"port", "health: {listen: 'localhost:nothing'}", `:1:18: read listen: "nothing" is no port`},
		{"attribute", "service: {attributes: {'': a}}", ":1:23: read attributes: a name is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "c.yaml", []byte(c.text))
			got := command(t, "run", "--config", path, "--check-config")
			if want := "otel-kprobe: " + path + c.want; got.Status != exitUsage || got.Stdout != "" ||
				!strings.HasPrefix(got.Stderr, want) || strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("status %d, stdout %q, stderr\n%swant\n%s…", got.Status, got.Stdout, got.Stderr, want)
			}
		})
	}
}

func TestServiceFilterIsCompiled(t *testing.T) {
	good := write(t, "good.yaml", []byte("packets: {filter: tcp port 443}\n"))
	if lacksPcap() {
		got := command(t, "run", "--config", good, "--check-config")
		if got.Status != exitUsage || !strings.Contains(got.Stderr, filter.ErrNoPcap.Error()) {
			t.Errorf("%+v, want a sentence about a build without expressions", got)
		}
		return
	}
	want := outcome{Stdout: good + " is right: packets and block\n"}
	if diff := cmp.Diff(want, command(t, "run", "--config", good, "--check-config")); diff != "" {
		t.Error(diff)
	}
	bad := write(t, "bad.yaml", []byte("packets:\n  filter: tcp prot 443\n"))
	got := command(t, "run", "--config", bad, "--check-config")
	if got.Status != exitUsage || !strings.HasPrefix(got.Stderr, "otel-kprobe: "+bad+`:2:11: read filter: compile filter "tcp prot 443"`) {
		t.Errorf("%+v", got)
	}
}

func TestServiceFlags(t *testing.T) {
	good := write(t, "good.yaml", nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "name the configuration: --config FILE"},
		{[]string{"--config", good, "--duration", "-1s"}, "read --duration: -1s is negative"},
		{[]string{"--config", good + "x"}, "read the file of --config: open " + good + "x: no such file or directory"},
	} {
		want := outcome{Status: exitUsage, Stderr: "otel-kprobe: " + c.want + "\n"}
		if diff := cmp.Diff(want, command(t, append([]string{"run"}, c.args...)...)); diff != "" {
			t.Error(diff)
		}
	}
}

// What the file says of the resource comes before the environment, which comes
// before what is found out.
func TestServiceResource(t *testing.T) {
	setenv(t, map[string]string{"OTEL_SERVICE_NAME": "env", "OTEL_RESOURCE_ATTRIBUTES": "team=env,zone=env"})
	h := host{name: "h", named: []attribute.KeyValue{attribute.String("service.name", "file"), attribute.String("team", "file")}}
	got := map[string]string{}
	for _, a := range newResource(t.Context(), h, "i", newLogger(io.Discard)).Attrs {
		got[a.Key] = a.Str
	}
	for key, want := range map[string]string{"service.name": "file", "team": "file", "zone": "env", "host.name": "h"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}
