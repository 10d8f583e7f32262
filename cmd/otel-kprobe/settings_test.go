package main

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/filter"
)

func lookup(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

// Where spans go, by flag before environment before default.
func TestOutputSettings(t *testing.T) {
	type env = map[string]string
	tree := outputSettings{format: export.FormatTree, correlate: correlateLink}
	with := func(change func(*outputSettings)) outputSettings {
		s := tree
		change(&s)
		return s
	}
	console := with(func(s *outputSettings) { s.console = true })
	otlp := with(func(s *outputSettings) { s.otlp = true })
	for _, c := range []struct {
		name string
		args []string
		env  env
		want outputSettings
	}{
		{name: "default", want: console},
		{name: "format", args: []string{"--format", "json"}, want: with(func(s *outputSettings) { s.console, s.format = true, export.FormatJSON })},
		{name: "child", args: []string{"--correlate", "child"}, want: with(func(s *outputSettings) { s.console, s.correlate = true, correlateChild })},
		{name: "full", args: []string{"--correlate", "full"}, want: with(func(s *outputSettings) { s.console, s.correlate = true, correlateFull })},
		{name: "only", args: []string{"--only", "drops"}, want: with(func(s *outputSettings) { s.console, s.only = true, onlyRules{drops: true} })},
		{name: "raw addresses", args: []string{"--raw-addresses"}, want: with(func(s *outputSettings) { s.console, s.rawAddresses = true, true })},
		{name: "otlp", args: []string{"--otlp"}, want: otlp},
		{name: "layers", args: []string{"--otlp", "--services-per-layer"}, want: with(func(s *outputSettings) { s.otlp, s.perLayer = true, true })},
		{name: "otlp host", args: []string{"--otlp=collector"}, want: with(func(s *outputSettings) { s.otlp, s.endpoint = true, "http://collector:4317" })},
		{name: "otlp host and port", args: []string{"--otlp=[::1]:9"}, want: with(func(s *outputSettings) { s.otlp, s.endpoint = true, "http://[::1]:9" })},
		{name: "otlp URL", args: []string{"--otlp=https://collector/"}, want: with(func(s *outputSettings) { s.otlp, s.endpoint = true, "https://collector:4317" })},
		{name: "file", args: []string{"--output", "f"}, want: with(func(s *outputSettings) { s.file, s.path = true, "f" })},
		{name: "file by name", args: []string{"--output", "f", "--exporter", "file"}, want: with(func(s *outputSettings) { s.file, s.path = true, "f" })},
		{name: "file and otlp", args: []string{"--output", "f", "--otlp"}, want: with(func(s *outputSettings) { s.file, s.path, s.otlp = true, "f", true })},
		{
			name: "several, and a file that is not among them",
			args: []string{"--exporter", "console,otlp", "--output", "f"},
			want: with(func(s *outputSettings) { s.console, s.otlp, s.file, s.path = true, true, true, "f" }),
		},
		{name: "endpoint of the environment", env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, want: otlp},
		{name: "endpoint of traces", env: env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, want: otlp},
		{
			name: "endpoint of the environment and file", args: []string{"--output", "f"},
			env:  env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
			want: with(func(s *outputSettings) { s.otlp, s.file, s.path = true, true, "f" }),
		},
		{
			name: "flag before the environment's endpoint", args: []string{"--exporter", "console"},
			env: env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, want: console,
		},
		{name: "exporter of the environment", env: env{"OTEL_TRACES_EXPORTER": "otlp"}, want: otlp},
		{
			name: "exporters of the environment", env: env{"OTEL_TRACES_EXPORTER": "console, otlp"},
			want: with(func(s *outputSettings) { s.console, s.otlp = true, true }),
		},
		{name: "no exporter", env: env{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, want: tree},
		{name: "exporter flag before the environment", args: []string{"--exporter", "console"}, env: env{"OTEL_TRACES_EXPORTER": "otlp"}, want: console},
		{name: "otlp flag before the environment", args: []string{"--otlp"}, env: env{"OTEL_TRACES_EXPORTER": "console"}, want: otlp},
		{name: "disabled", args: []string{"--otlp"}, env: env{"OTEL_SDK_DISABLED": "True"}, want: with(func(s *outputSettings) { s.disabled = true })},
		{
			name: "disabled, and the rest goes on", args: []string{"--exporter", "console,otlp"}, env: env{"OTEL_SDK_DISABLED": "true"},
			want: with(func(s *outputSettings) { s.console, s.disabled = true, true }),
		},
		{name: "disabled without otlp", env: env{"OTEL_SDK_DISABLED": "true"}, want: console},
		{name: "not disabled", args: []string{"--otlp"}, env: env{"OTEL_SDK_DISABLED": "1"}, want: otlp},
		{name: "protocol", args: []string{"--otlp"}, env: env{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, want: otlp},
		{
			name: "protocol of traces first", args: []string{"--otlp"},
			env: env{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: otlp,
		},
		{name: "protocol of no use", env: env{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, want: console},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f outputFlags
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.register(flags)
			f.registerDescribe(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			got, err := f.settings(lookup(c.env))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(outputSettings{}, onlyRules{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What the environment says wrongly is refused like a flag.
func TestBadEnvironment(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		env   map[string]string
		stern string
	}{
		{
			"exporter", nil,
			map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"},
			`read OTEL_TRACES_EXPORTER: "zipkin" is none of otlp, console, none`,
		},
		{
			"protocol",
			[]string{"--otlp"},
			map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
			`read OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" is not supported, only grpc is; use the endpoint's gRPC port (4317)`,
		},
		{
			"protocol of traces",
			[]string{"--otlp"},
			map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
			`read OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json" is not supported, only grpc is; use the endpoint's gRPC port (4317)`,
		},
		{
			"endpoint", nil,
			map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317"},
			`read OTEL_EXPORTER_OTLP_ENDPOINT: "127.0.0.1:4317" is no URL: write http://HOST:PORT, or https:// for TLS`,
		},
		{
			"endpoint of traces",
			[]string{"--otlp"},
			map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://[::1"},
			`read OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://[::1" is no URL: write http://HOST:PORT, or https:// for TLS`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			setenv(t, c.env)
			for _, cmd := range []string{"packets", "replay"} {
				args := append([]string{cmd}, c.args...)
				if cmd == "replay" {
					args = append(args, recordPing)
				}
				want := outcome{Status: exitUsage, Stderr: "otel-kprobe: " + c.stern + "\n"}
				if diff := cmp.Diff(want, command(t, args...)); diff != "" {
					t.Errorf("%s: -want +got:\n%s", cmd, diff)
				}
			}
		})
	}
}

// Spans that go nowhere are not made in silence.
func TestNowhere(t *testing.T) {
	for variable, c := range map[string]struct{ value, want string }{
		"OTEL_SDK_DISABLED":    {"true", `level=WARN msg="OTEL_SDK_DISABLED is true: no spans are sent by OTLP"`},
		"OTEL_TRACES_EXPORTER": {"none", `level=WARN msg="OTEL_TRACES_EXPORTER is none: spans go nowhere"`},
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, c.value)
			args := []string{"replay", recordPing}
			if variable == "OTEL_SDK_DISABLED" {
				args = append(args, "--otlp")
			}
			want := outcome{Status: exitOK, Stderr: c.want + "\n131 frames, 4 traces, 139 spans; nothing lost\n"}
			if diff := cmp.Diff(want, command(t, args...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPacketsSettings(t *testing.T) {
	defaults := packetsSettings{
		output:  outputSettings{console: true, format: export.FormatTree, correlate: correlateLink},
		backend: "auto", run: runFlags{ringBytes: 16 << 20},
	}
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name   string
		args   []string
		change func(*packetsSettings)
	}{
		{"defaults", nil, func(*packetsSettings) {}},
		{"filter in one word", []string{"tcp port 443"}, func(s *packetsSettings) { s.pcapText = "tcp port 443" }},
		{"filter in several", []string{"tcp", "port", "443"}, func(s *packetsSettings) { s.pcapText = "tcp port 443" }},
		{"function", []string{"--filter-func", "tcp_.*|ip_rcv"}, func(s *packetsSettings) { s.funcText = "tcp_.*|ip_rcv" }},
		{"functions without an skb", []string{"--non-skb-funcs", "fib_.*"}, func(s *packetsSettings) { s.nonSkb.text = "fib_.*" }},
		{"namespace", []string{"--filter-netns", "inode:4026531840"}, func(s *packetsSettings) { s.netns = 4026531840 }},
		{"interface", []string{"--filter-ifname", "fifteen-letters"}, func(s *packetsSettings) { s.ifname = "fifteen-letters" }},
		{"mark", []string{"--filter-mark", "0x10/0xf0"}, func(s *packetsSettings) { s.mark = filter.Mark{Value: 0x10, Mask: 0xf0} }},
		{"process by name", []string{"--filter-process", "curl"}, func(s *packetsSettings) { s.owner.Comm = "curl" }},
		{"process by number", []string{"--filter-process", self}, func(s *packetsSettings) { s.owner.TGID = uint32(os.Getpid()) }},
		{"backend", []string{"--backend", "kprobe"}, func(s *packetsSettings) { s.backend = "kprobe" }},
		{"sample", []string{"--sample", "0.01"}, func(s *packetsSettings) { s.sample = 0xfd70a3d70a3d71 }},
		{"no payload", []string{"--no-payload"}, func(s *packetsSettings) { s.noPayload = true }},
		{"entry only", []string{"--entry-only"}, func(s *packetsSettings) { s.entryOnly = true }},
		{
			"ends",
			[]string{"--duration", "1m30s", "--limit-traces", "5"},
			func(s *packetsSettings) { s.run.duration, s.run.limit = 90*time.Second, 5 },
		},
		{
			"files",
			[]string{"--ready-file", "a", "--summary-file", "b", "--record", "c"},
			func(s *packetsSettings) { s.run.readyFile, s.run.summaryFile, s.run.record = "a", "b", "c" },
		},
		{
			"extras",
			[]string{"--stack", "drops", "--caller", "--skb-fields", "skb->hash,skb->dev->ifindex", "--payload", "256"},
			func(s *packetsSettings) {
				s.extras = extrasSettings{stack: "drops", caller: true, fields: []string{"skb->hash", "skb->dev->ifindex"}, payload: 256}
			},
		},
		{"all stacks", []string{"--stack", "all"}, func(s *packetsSettings) { s.extras.stack = "all" }},
		{"ring", []string{"--ring-size", "65536"}, func(s *packetsSettings) { s.run.ringBytes = 65536 }},
		{"largest ring", []string{"--ring-size", "1073741824"}, func(s *packetsSettings) { s.run.ringBytes = 1 << 30 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f packetsFlags
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.register(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			got, err := f.settings(flags.Args(), lookup(nil))
			if flags.NArg() > 0 && lacksPcap() {
				if !errors.Is(err, filter.ErrNoPcap) {
					t.Errorf("without libpcap: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := defaults
			c.change(&want)
			unlike := cmpopts.IgnoreFields(packetsSettings{}, "pcap", "function", "nonSkb.pattern") // compiled
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(packetsSettings{}, runFlags{}, outputSettings{}, onlyRules{}, extrasSettings{}, nonSkbSettings{}, programFlags{}), unlike); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if (got.function != nil) != (want.funcText != "") || got.function != nil && !got.function.MatchString("tcp_rcv") {
				t.Errorf("function pattern %v", got.function)
			}
			if (got.nonSkb.pattern != nil) != (want.nonSkb.text != "") || got.nonSkb.pattern != nil && !got.nonSkb.pattern.MatchString("fib_lookup") {
				t.Errorf("pattern of functions without an skb %v", got.nonSkb.pattern)
			}
		})
	}
}
