package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/otel-kprobe/otel-kprobe/internal/blockio"
	"github.com/otel-kprobe/otel-kprobe/internal/export"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

func TestBlockSettings(t *testing.T) {
	defaults := blockSettings{
		output: outputSettings{console: true, format: export.FormatTree, correlate: correlateLink},
		run:    runFlags{ringBytes: 16 << 20},
	}
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name   string
		args   []string
		change func(*blockSettings)
	}{
		{"defaults", nil, func(*blockSettings) {}},
		{"operations", []string{"--op", "read,write", "--op", "discard"}, func(s *blockSettings) { s.operations = []string{"read", "write", "discard"} }},
		{"process", []string{"--pid", self}, func(s *blockSettings) { s.pid = uint32(os.Getpid()) }},
		{"sample", []string{"--sample", "1/4"}, func(s *blockSettings) { s.sample = 3 << 54 }},
		{"latency", []string{"--min-latency", "10ms"}, func(s *blockSettings) { s.minLatency = 10 * time.Millisecond }},
		{
			"histogram",
			[]string{"--histogram-only", "--by", "process", "--interval", "1s"},
			func(s *blockSettings) { s.histogramOnly, s.by, s.interval = true, blockio.ByProcess, time.Second },
		},
		{"correlation", []string{"--correlate", "off"}, func(s *blockSettings) { s.output.correlate = correlateOff }},
		{
			"ends",
			[]string{"--duration", "10s", "--limit-traces", "5"},
			func(s *blockSettings) { s.run.duration, s.run.limit = 10*time.Second, 5 },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f blockFlags
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.register(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			got, err := f.settings(lookup(nil))
			if err != nil {
				t.Fatal(err)
			}
			want := defaults
			c.change(&want)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(blockSettings{}, runFlags{}, outputSettings{}, onlyRules{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestBlockBadInput(t *testing.T) {
	nine := strings.Repeat(",sda", 9)[1:]
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"argument", []string{"sda"}, `block takes no argument, not "sda": see 'otel-kprobe block --help'`},
		{"negative interval", []string{"--interval", "-1s"}, "read --interval: -1s is negative"},
		{"short interval", []string{"--interval", "1ms"}, "read --interval: 1ms is shorter than 100ms"},
		{"negative latency", []string{"--min-latency", "-1s"}, "read --min-latency: -1s is negative"},
		{"key", []string{"--by", "colour"}, `read --by: "colour" is none of device, op, cgroup, process`},
		{"too many devices", []string{"--device", nine}, "read --device: 9 devices are named, at most 8 can be"},
		{"negative process", []string{"--pid", "-1"}, "read --pid: -1 is no process id"},
		{"process that has ended", []string{"--pid", "2147483647"}, "read --pid: there is no process 2147483647"},
		{
			"histogram to a file",
			[]string{"--histogram-only", "--output", "x"},
			"read --histogram-only: it exports no requests, so there is nothing to write to a file; leave --output and --exporter file out",
		},
		{
			"histogram recorded",
			[]string{"--histogram-only", "--record", "x"},
			"read --histogram-only: it reports no requests, so there is nothing to record; leave --record out",
		},
		{
			"histogram of some traces",
			[]string{"--histogram-only", "--limit-traces", "1"},
			"read --histogram-only: it makes no traces, so --limit-traces would never be reached; use --duration",
		},
		{
			"histogram of slow ones",
			[]string{"--histogram-only", "--min-latency", "1s"},
			"read --histogram-only: it exports no requests, so --min-latency would choose none; leave it out",
		},
		{
			"histogram of some requests",
			[]string{"--histogram-only", "--sample", "1/2"},
			"read --histogram-only: it counts all requests, so --sample would choose none; leave it out",
		},
		{
			"histogram of failures",
			[]string{"--histogram-only", "--only", "errors"},
			"read --histogram-only: it exports no requests, so --only would choose none; leave it out",
		},
		{"dropped requests", []string{"--only", "drops"}, "read --only: block requests are not dropped; use errors, slow=TIME or correlated"},
		{"correlation", []string{"--correlate", "guess"}, `read --correlate: "guess" is none of link, child, full, off`},
		{
			"correlated without correlation",
			[]string{"--correlate", "off", "--only", "correlated"},
			"read --only: with --correlate=off no trace is correlated; leave one of the two out",
		},
		{
			"histogram with correlation",
			[]string{"--histogram-only", "--correlate", "link"},
			"read --histogram-only: it exports no requests, so --correlate would do nothing; leave it out",
		},
		{
			"histogram in lines",
			[]string{"--histogram-only", "--format", "lines"},
			"read --histogram-only: it shows no requests, so --format would do nothing; leave it out",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := outcome{Status: exitUsage, Stderr: "otel-kprobe: " + c.want + "\n"}
			if diff := cmp.Diff(want, command(t, append([]string{"block"}, c.args...)...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOperationBits(t *testing.T) {
	s := blockSettings{operations: []string{"READ"}}
	_, err := s.operationBits(kernel.BlockNames{})
	want := `read --op: "READ" is none of this kernel's operations: `
	var status *statusError
	if !errors.As(err, &status) || status.status != exitUsage || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}
