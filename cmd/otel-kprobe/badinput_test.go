package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/filter"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// Every mistake ends with status 2, one sentence on stderr and nothing else.
func TestBadInput(t *testing.T) {
	file := write(t, "file", nil)
	for _, c := range []struct {
		name string
		args []string
		want string // what follows "otel-kprobe: "
	}{
		{"unknown flag", []string{"--nope"}, "unknown flag: --nope: see 'otel-kprobe --help'"},
		{"unknown flag of packets", []string{"packets", "--nope"}, "unknown flag: --nope: see 'otel-kprobe packets --help'"},
		{"unknown command", []string{"trace"}, `unknown command "trace": see 'otel-kprobe --help'`},
		{"mistyped command", []string{"packet"}, `unknown command "packet", did you mean packets: see 'otel-kprobe --help'`},
		{"help of an unknown command", []string{"help", "trace"}, `unknown command "trace": see 'otel-kprobe --help'`},
		{"check takes nothing", []string{"check", "x"}, `check takes no argument, not "x": see 'otel-kprobe check --help'`},
		{
			"flag without its value",
			[]string{"packets", "--record"},
			"flag needs an argument: --record: see 'otel-kprobe packets --help'",
		},
		{"empty value", []string{"packets", "--filter-netns", ""}, "read --filter-netns: it is empty"},
		{"empty list", []string{"packets", "--exporter", ""}, "read --exporter: it is empty"},
		{
			"empty endpoint",
			[]string{"packets", "--otlp="},
			`invalid argument "" for "--otlp" flag: an endpoint is host:port or a URL of scheme, host and port: see 'otel-kprobe packets --help'`,
		},
		{
			"endpoint of another kind",
			[]string{"packets", "--otlp=ftp://collector"},
			`invalid argument "ftp://collector" for "--otlp" flag: scheme "ftp" is neither http nor https: see 'otel-kprobe packets --help'`,
		},
		{"endpoint without equals sign", []string{"packets", "--otlp", "collector:4317"}, "read --otlp: the endpoint follows an equals sign: --otlp=collector:4317"},
		{
			"bad function pattern",
			[]string{"packets", "--filter-func", "tcp_("},
			"read --filter-func: compile function pattern: error parsing regexp: missing closing ): `tcp_(`",
		},
		{
			"bad pattern of functions without an skb",
			[]string{"packets", "--non-skb-funcs", "fib_("},
			"read --non-skb-funcs: compile function pattern: error parsing regexp: missing closing ): `fib_(`",
		},
		{
			"the same of functions",
			[]string{"functions", "--non-skb-funcs", "fib_("},
			"read --non-skb-funcs: compile function pattern: error parsing regexp: missing closing ): `fib_(`",
		},
		{
			"functions without an skb and no returns",
			[]string{"packets", "--non-skb-funcs", "fib_.*", "--entry-only"},
			"read --non-skb-funcs: what runs within a function cannot be told without its return: leave --entry-only away",
		},
		{
			"bad function pattern of functions",
			[]string{"functions", "tcp_("},
			"compile function pattern: error parsing regexp: missing closing ): `tcp_(`",
		},
		{"two function patterns", []string{"functions", "a", "b"}, "functions takes one expression, not 2: quote it"},
		{
			"namespace number",
			[]string{"packets", "--filter-netns", "inode:0"},
			`read --filter-netns: parse network namespace "inode:0": no namespace has inode 0; read it with "ls -Li /proc/self/ns/net"`,
		},
		{
			"file that is no namespace",
			[]string{"packets", "--filter-netns", file},
			`read --filter-netns: parse network namespace "` + file + `": ` + file + ` is not a namespace file; give one like /proc/PID/ns/net`,
		},
		{
			"bad mark",
			[]string{"packets", "--filter-mark", "red"},
			`read --filter-mark: parse mark "red": value "red" is not a number from 0 to 0xffffffff; write it in decimal, or in hexadecimal with 0x`,
		},
		{
			"process that does not exist",
			[]string{"packets", "--filter-process", "4194305"}, // above the most that a kernel gives
			"read --filter-process: there is no process 4194305; for the packets of a process that is yet to start, give its name",
		},
		{
			"number that no process has",
			[]string{"packets", "--filter-process", "99999999999"},
			"read --filter-process: there is no process 99999999999; for the packets of a process that is yet to start, give its name",
		},
		{
			"long process name",
			[]string{"packets", "--filter-process", "sixteen-letters-"},
			`read --filter-process: "sixteen-letters-" is longer than the 15 bytes that the name of a process can have; /proc/PID/comm has it`,
		},
		{
			"cgroup that does not exist",
			[]string{"packets", "--filter-cgroup", "18446744073709551616"},
			"read --filter-cgroup: there is no cgroup of version 2 with the id 18446744073709551616; 'ls -di' of its directory shows it",
		},
		{
			"long interface name",
			[]string{"packets", "--filter-ifname", "sixteen-letters-"},
			`read --filter-ifname: "sixteen-letters-" is longer than the 15 bytes that a name can have`,
		},
		{"ring size", []string{"packets", "--ring-size", "1000000"}, "read --ring-size: 1000000 is not a power of two from 4096 to 1073741824"},
		{"ring too small", []string{"packets", "--ring-size", "2048"}, "read --ring-size: 2048 is not a power of two from 4096 to 1073741824"},
		{"negative share of a CPU", []string{"packets", "--max-cpu", "-1"}, "read --max-cpu: -1 is no percentage of a CPU, from 0 to 100000"},
		{"no number of a CPU", []string{"block", "--max-cpu", "NaN"}, "read --max-cpu: NaN is no percentage of a CPU, from 0 to 100000"},
		{"more lost than all", []string{"packets", "--max-loss", "101"}, "read --max-loss: 101 is no percentage, from 0 to 100"},
		{
			"negative budget",
			[]string{"packets", "--max-events", "-1"},
			`invalid argument "-1" for "--max-events" flag: strconv.ParseUint: parsing "-1": invalid syntax: see 'otel-kprobe packets --help'`,
		},
		{"negative duration", []string{"packets", "--duration", "-1s"}, "read --duration: -1s is negative"},
		{"unknown backend", []string{"packets", "--backend", "fast"}, `read --backend: choose backend "fast": use auto, session, multi or kprobe`},
		{"unknown backend of functions", []string{"functions", "--backend", "fast"}, `read --backend: choose backend "fast": use auto, session, multi or kprobe`},
		{
			"module that is not loaded",
			[]string{"packets", "--kmods", "no-such"},
			`read --kmods: module "no_such" is not loaded: see lsmod; what is built into the kernel belongs to vmlinux`,
		},
		{
			"module of functions that is not loaded",
			[]string{"functions", "--kmods", "no-such"},
			`read --kmods: module "no_such" is not loaded: see lsmod; what is built into the kernel belongs to vmlinux`,
		},
		{
			"missing types of the kernel",
			[]string{"packets", "--kernel-btf", "/no/such"},
			"read --kernel-btf: read kernel types: open /no/such: no such file or directory",
		},
		{
			"missing types of the kernel for a check",
			[]string{"check", "--kernel-btf", "/no/such"},
			"read --kernel-btf: read kernel types: open /no/such: no such file or directory",
		},
		{
			"garbled types of the kernel for a check",
			[]string{"check", "--kernel-btf", "/proc/version"},
			"read --kernel-btf: read kernel types of /proc/version: damaged or foreign BTF: magic 0x694c",
		},
		{
			"garbled types of the kernel",
			[]string{"functions", "--kernel-btf", "/proc/version"},
			"read --kernel-btf: read kernel types of /proc/version: damaged or foreign BTF: magic 0x694c",
		},
		{"unknown exporter", []string{"packets", "--exporter", "zipkin"}, `read --exporter: "zipkin" is none of console, otlp, file`},
		{"unknown format", []string{"packets", "--format", "xml"}, `read --format: unknown format "xml": use tree, lines or json`},
		{
			"payload that nobody looks for",
			[]string{"packets", "--no-payload", "--correlate", "off"},
			"read --no-payload: with --correlate=off nothing is looked for; leave one of the two out",
		},
		{"format without console", []string{"packets", "--format", "lines", "--otlp"}, "read --format: nothing goes to the console, only to otlp; add --exporter console"},
		{
			"layers without a receiver",
			[]string{"packets", "--services-per-layer"},
			"read --services-per-layer: services are for receivers of spans, and nothing goes to one; add --otlp or --output FILE",
		},
		{"file without name", []string{"packets", "--exporter", "file"}, "export to a file: name it with --output FILE"},
		{
			"endpoint without exporter",
			[]string{"packets", "--exporter", "console", "--otlp"},
			"read --otlp: --exporter does not name otlp, so nothing would be sent; add it or leave --otlp out",
		},
		{"stack of what", []string{"packets", "--stack", "foo"}, `read --stack: "foo" is neither drops nor all`},
		{"field of nothing", []string{"packets", "--skb-fields", "hash"}, `read --skb-fields: field "hash" does not begin with skb->: name it as in skb->hash or skb->dev->ifindex`},
		{"empty fields", []string{"packets", "--skb-fields", "skb->hash,,skb->len"}, "read --skb-fields: a field is empty: name one or more as in skb->hash,skb->dev->ifindex"},
		{"too many fields", []string{"packets", "--skb-fields", strings.Repeat("skb->len,", 16) + "skb->hash"}, "read --skb-fields: 17 fields are more than 16"},
		{"no payload", []string{"packets", "--payload", "0"}, `read --payload: "0" is not a number of bytes from 1 to 256`},
		{"too much payload", []string{"packets", "--payload", "9999"}, `read --payload: "9999" is not a number of bytes from 1 to 256`},
		{"payload in words", []string{"packets", "--payload", "all"}, `read --payload: "all" is not a number of bytes from 1 to 256`},
		{"replay without file", []string{"replay"}, "replay takes one file, not 0: see 'otel-kprobe replay --help'"},
		{"replay of two files", []string{"replay", "a", "b"}, "replay takes one file, not 2: see 'otel-kprobe replay --help'"},
		{"bad seed", []string{"replay", "--seed", "xyz", "a"}, `read --seed: "xyz" is not up to 32 hexadecimal digits`},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := outcome{Status: exitUsage, Stderr: "otel-kprobe: " + c.want + "\n"}
			if diff := cmp.Diff(want, command(t, c.args...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The texts of these come from elsewhere.
func TestBadInputOfOthers(t *testing.T) {
	badFilter := "syntax error"
	if lacksPcap() {
		badFilter = filter.ErrNoPcap.Error()
	}
	for _, c := range []struct {
		name, part string
		args       []string
	}{
		{"filter that libpcap refuses", badFilter, []string{"packets", "tcp prot 3"}},
		{"filter of a tunnel that libpcap refuses", badFilter, []string{"packets", "--filter-tunnel", "tcp prot 3"}},
		{"namespace that does not exist", "no such name", []string{"packets", "--filter-netns", "no-such-namespace"}},
		{"path that does not exist", "no such file", []string{"packets", "--filter-netns", "/no/such/path"}},
		{"duration", `invalid duration "long"`, []string{"packets", "--duration", "long"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := command(t, c.args...)
			wantOneLine(t, got, exitUsage, c.part)
		})
	}
}

// lacksPcap says that this is a build without cgo.
func lacksPcap() bool {
	_, err := filter.Compile("tcp")
	return errors.Is(err, filter.ErrNoPcap)
}

// wantOneLine checks that a command failed with a status and one line that
// holds part.
func wantOneLine(t *testing.T, got outcome, status int, part string) {
	t.Helper()
	if got.Status != status || got.Stdout != "" {
		t.Errorf("status %d, want %d; stdout %q", got.Status, status, got.Stdout)
	}
	if !strings.HasPrefix(got.Stderr, "otel-kprobe: ") || strings.Count(got.Stderr, "\n") != 1 || !strings.Contains(got.Stderr, part) {
		t.Errorf("stderr %q is not one line with %q", got.Stderr, part)
	}
}

// A path that can't be written is known before anything is attached, and leaves
// nothing behind.
func TestUnwritableFiles(t *testing.T) {
	for _, flag := range []string{"--output", "--record", "--summary-file", "--ready-file"} {
		t.Run(flag, func(t *testing.T) {
			dir := t.TempDir()
			others := map[string]string{
				"--output":       filepath.Join(dir, "output"),
				"--record":       filepath.Join(dir, "record"),
				"--summary-file": filepath.Join(dir, "summary"),
				"--ready-file":   filepath.Join(dir, "ready"),
			}
			others[flag] = filepath.Join(dir, "missing", "file")
			args := []string{"packets"}
			for name, path := range others {
				args = append(args, name, path)
			}
			wantOneLine(t, command(t, args...), exitUsage, "create the file of "+flag+": open "+others[flag]+": no such file or directory")
			wantEmpty(t, dir)
		})
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// Where nothing can be traced, packets and functions say so in one line, and
// files of earlier runs keep what they hold.
func TestCannotTrace(t *testing.T) {
	if kernel.CannotTrace(kernel.Check()) == nil {
		t.Skip("this host can trace packets: test/scenario covers it")
	}
	dir := t.TempDir()
	earlier := write(t, "earlier", []byte("spans of an earlier run\n"))
	for _, args := range [][]string{
		{"packets"},
		{"packets", "--backend", "kprobe"},
		{"packets", "--otlp"},
		{"packets", "--output", earlier},
		{"packets", "--output", filepath.Join(dir, "o"), "--record", filepath.Join(dir, "r"), "--summary-file", filepath.Join(dir, "s"), "--ready-file", filepath.Join(dir, "a")},
		{"functions"},
		{"functions", "tcp_.*"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			wantOneLine(t, command(t, args...), exitCannotTrace, "cannot trace packets here: ")
		})
	}
	wantEmpty(t, dir)
	if got := string(read(t, earlier)); got != "spans of an earlier run\n" {
		t.Errorf("the earlier file holds %q", got)
	}
	got := command(t, "check")
	if got.Status != exitCannotTrace || !strings.Contains(got.Stdout, "backend: ") || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("check: %+v", got)
	}
}
