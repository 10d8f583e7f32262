package kernel

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// machine describes a kernel for checker by the files that it shows.
type machine struct {
	files   map[string]string
	release string
	arch    string
	ringErr error
	unbound bool     // locked memory is unlimited
	funcs   []string // in the BTF of vmlinux
	blocks  []string // tracepoints of block requests in the BTF of vmlinux
	noBTF   bool
	btfFile bool // the types are in a file that is named instead
	modules bool // BTF of a module
}

const allCaps = "CapEff:\t000001ffffffffff\n"

// debian is a machine on which everything works.
func debian(change func(*machine)) machine {
	m := machine{
		release: "6.12.9-cloud-amd64", arch: "amd64", modules: true, unbound: true,
		funcs:  []string{"bpf_kprobe_multi_link_attach", "register_fprobe_ips", "bpf_session_cookie", "bpf_session_is_return"},
		blocks: []string{TracepointRequestIssue, TracepointRequestComplete},
		files: map[string]string{
			"/sys/bus/event_source/devices/kprobe/type":      "8",
			"/sys/kernel/tracing/available_filter_functions": "ip_rcv\n",
			"/sys/kernel/tracing/events/enable":              "0",
			"/sys/kernel/security/lockdown":                  "[none] integrity confidentiality\n",
			"/sys/kernel/debug/kprobes/enabled":              "1\n",
			"/proc/self/status":                              "Name:\tx\n" + allCaps,
			"/proc/modules":                                  "veth 1 0 - Live 0x0\n",
			"/proc/filesystems":                              "nodev\tsysfs\nnodev\ttracefs\n",
			"/proc/kallsyms":                                 "0000000000000000 A x\nffffffff81000000 T _stext\n",
			"/proc/sys/net/core/bpf_jit_enable":              "1\n",
		},
	}
	change(&m)
	return m
}

func (m machine) without(paths ...string) {
	for _, p := range paths {
		delete(m.files, p)
	}
}

func (m machine) checker(t *testing.T) *checker {
	t.Helper()
	root := t.TempDir()
	for path, text := range m.files {
		writeFile(t, filepath.Join(root, path), text)
	}
	file := ""
	if m.btfFile {
		file = filepath.Join(root, "types.btf")
		writeFile(t, file, string(machineBTF(m.funcs, m.blocks)))
	}
	if !m.noBTF {
		writeFile(t, root+"/sys/kernel/btf/vmlinux", string(machineBTF(m.funcs, m.blocks)))
		if m.modules {
			writeFile(t, root+"/sys/kernel/btf/veth", "")
		}
	}
	return &checker{
		btfFile: file,
		root:    root, arch: m.arch, release: m.release, machine: "x86_64",
		haveRing: func() error { return m.ringErr },
		memlock:  func() (bool, error) { return m.unbound, nil },
	}
}

// machineBTF is BTF that holds functions without parameters and tracepoints of
// a struct request *.
func machineBTF(funcs, blocks []string) []byte {
	strings := []byte{0}
	var types []byte
	add := func(name string, kind BTFKind, length, ref byte, extra ...byte) {
		off := 0
		if name != "" {
			off = len(strings)
			strings = append(append(strings, name...), 0)
		}
		types = append(types, byte(off), byte(off>>8), 0, 0, length, 0, 0, byte(kind), ref, 0, 0, 0)
		types = append(types, extra...)
	}
	add("", BTFFuncProto, 0, 0) // 1
	for _, name := range funcs {
		add(name, BTFFunc, 1, 1)
	}
	if len(blocks) > 0 {
		id := byte(len(funcs) + 2)
		add(structRequest, BTFStruct, 0, 0)
		add("", BTFPtr, 0, id)
		add("", BTFFuncProto, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, id+1, 0, 0, 0)
		add("", BTFPtr, 0, id+2)
		for _, name := range blocks {
			add(tracepointTypedef+name, BTFTypedef, 0, id+3)
		}
	}
	header := []byte{0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0}
	for _, n := range []int{len(types), len(types), len(strings)} {
		header = append(header, byte(n), byte(n>>8), 0, 0)
	}
	return append(append(header, types...), strings...)
}

func machines() map[string]machine {
	return map[string]machine{
		"everything": debian(func(*machine) {}),
		"no session": debian(func(m *machine) { m.release, m.funcs = "6.6.1", m.funcs[:2] }),
		"no fprobe": debian(func(m *machine) {
			m.release, m.funcs = "6.1.0-50-cloud-amd64", []string{"bpf_kprobe_multi_link_attach"}
		}),
		"old": debian(func(m *machine) {
			m.release, m.funcs, m.modules = "5.10.0-46-cloud-amd64", nil, false
		}),
		"no kprobes": debian(func(m *machine) {
			m.without("/sys/bus/event_source/devices/kprobe/type", "/sys/kernel/tracing/available_filter_functions",
				"/sys/kernel/tracing/events/enable", "/proc/modules")
			m.files["/sys/bus/event_source/devices/uprobe/type"] = "9"
			m.funcs, m.modules = nil, false
		}),
		"kprobes off":     debian(func(m *machine) { m.files["/sys/kernel/debug/kprobes/enabled"] = "0\n"; m.funcs = nil }),
		"no sysfs":        debian(func(m *machine) { m.without("/sys/bus/event_source/devices/kprobe/type"); m.funcs = nil }),
		"too old":         debian(func(m *machine) { m.release = "4.19.0" }),
		"other cpu":       debian(func(m *machine) { m.arch = "riscv64" }),
		"no BTF":          debian(func(m *machine) { m.noBTF = true }),
		"BTF in a file":   debian(func(m *machine) { m.noBTF, m.btfFile = true, true }),
		"BTF twice":       debian(func(m *machine) { m.btfFile = true }),
		"damaged BTF":     debian(func(m *machine) { m.noBTF = true; m.files["/sys/kernel/btf/vmlinux"] = "ELF" }),
		"confidentiality": debian(func(m *machine) { m.files["/sys/kernel/security/lockdown"] = "none integrity [confidentiality]\n" }),
		"integrity":       debian(func(m *machine) { m.files["/sys/kernel/security/lockdown"] = "none [integrity] confidentiality\n" }),
		"unprivileged": debian(func(m *machine) {
			m.files["/proc/self/status"] = "CapEff:\t0000000000000000\n"
			m.files["/proc/kallsyms"] = "0000000000000000 T _stext\n"
			m.ringErr = errors.New("operation not permitted")
		}),
		"fine capabilities": debian(func(m *machine) { m.files["/proc/self/status"] = "CapEff:\t000000c000000000\n" }),
		"paranoid with capabilities": debian(func(m *machine) {
			m.release, m.funcs = "6.1.0-50-cloud-amd64", nil
			m.files["/proc/self/status"] = "CapEff:\t000000c000000000\n"
			m.files["/proc/sys/kernel/perf_event_paranoid"] = "3\n"
		}),
		"paranoid as root": debian(func(m *machine) {
			m.release, m.funcs = "6.1.0-50-cloud-amd64", nil
			m.files["/proc/sys/kernel/perf_event_paranoid"] = "3\n"
		}),
		"no tracefs": debian(func(m *machine) {
			m.without("/sys/kernel/tracing/available_filter_functions", "/sys/kernel/tracing/events/enable")
		}),
		"no function tracer": debian(func(m *machine) {
			m.without("/sys/kernel/tracing/available_filter_functions")
		}),
		"tracefs in debugfs": debian(func(m *machine) {
			m.without("/sys/kernel/tracing/available_filter_functions", "/sys/kernel/tracing/events/enable")
			m.files["/sys/kernel/debug/tracing/available_filter_functions"] = "ip_rcv\n"
		}),
		"kernel without tracefs": debian(func(m *machine) {
			m.without("/sys/kernel/tracing/available_filter_functions", "/sys/kernel/tracing/events/enable")
			m.files["/proc/filesystems"] = "nodev\tsysfs\n"
		}),
		"no ring": debian(func(m *machine) { m.ringErr = ebpf.ErrNotSupported }),
		"locked memory": debian(func(m *machine) {
			m.release, m.unbound = "5.10.0", false
			m.files["/proc/self/status"] = "CapEff:\t000000c000000000\n"
		}),
		"no JIT":         debian(func(m *machine) { m.files["/proc/sys/net/core/bpf_jit_enable"] = "0\n" }),
		"no block layer": debian(func(m *machine) { m.blocks = nil }),
		"no completion":  debian(func(m *machine) { m.blocks = m.blocks[:1] }),
	}
}

// TestCheckGolden holds what a user reads on each kind of machine.
func TestCheckGolden(t *testing.T) {
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			c := m.checker(t)
			findings := c.check()
			var out bytes.Buffer
			if err := WriteFindings(&out, findings); err != nil {
				t.Fatal(err)
			}
			backend, why := ChooseBackend(findings)
			out.WriteString("\nbackend: " + backend + " (" + why + ")\n")
			for _, err := range []error{CannotTrace(findings), CannotTraceBlock(findings)} {
				if err != nil {
					out.WriteString("error: " + err.Error() + "\n")
				}
			}
			compareGolden(t, strings.ReplaceAll(name, " ", "-"), strings.ReplaceAll(out.String(), c.root, ""))
		})
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "check", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestCannotTrace(t *testing.T) {
	fine := map[string]bool{
		"everything":       true,
		"paranoid as root": true, "no session": true, "no fprobe": true, "old": true, "integrity": true,
		"fine capabilities": true, "tracefs in debugfs": true, "no JIT": true,
		"no block layer": true, "no completion": true,
		"BTF in a file": true, "BTF twice": true,
	}
	for name, m := range machines() {
		err := CannotTrace(m.checker(t).check())
		var cannot *CannotTraceError
		if fine[name] != (err == nil) || err != nil && !errors.As(err, &cannot) {
			t.Errorf("%s: error = %v, want traceable %v", name, err, fine[name])
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || cannot.Fix == "") {
			t.Errorf("%s: no one sentence with a way out: %q", name, err)
		}
	}
}

// TestCannotTraceBlock holds that requests need less than packets, and what.
func TestCannotTraceBlock(t *testing.T) {
	lacks := map[string]string{
		"no block layer":  "this kernel has no tracepoint block_rq_issue; use a kernel with CONFIG_BLOCK=y and CONFIG_TRACEPOINTS=y",
		"no completion":   "this kernel has no tracepoint block_rq_complete; use a kernel with CONFIG_BLOCK=y and CONFIG_TRACEPOINTS=y",
		"too old":         "kernel 4.19.0 is too old; boot Linux 5.10 or later",
		"other cpu":       "the architecture riscv64 is not supported; run it on amd64",
		"no BTF":          "this kernel describes no types (no /sys/kernel/btf/vmlinux); use a kernel with CONFIG_DEBUG_INFO_BTF=y; packets takes a file with its types, too (--kernel-btf)",
		"BTF in a file":   "this kernel describes no types, which programs at its tracepoints need; use a kernel with CONFIG_DEBUG_INFO_BTF=y: block takes no file with types",
		"damaged BTF":     "read kernel types of vmlinux: damaged or foreign BTF: 3 bytes hold no header; make /sys/kernel/btf/vmlinux readable, or report this with the kernel's release",
		"confidentiality": "kernel lockdown is in mode confidentiality, which forbids BPF to read kernel memory; boot with lockdown=integrity or without lockdown",
		"unprivileged":    "this process may not trace the kernel: it lacks CAP_BPF and CAP_PERFMON; run it as root, for example with sudo, or with CAP_BPF, CAP_PERFMON, CAP_SYSLOG and CAP_DAC_READ_SEARCH",
		"no ring":         "this kernel has no BPF ring buffer; boot Linux 5.8 or later with CONFIG_BPF_SYSCALL=y",
		"locked memory":   "the limit of locked memory is too low for BPF maps; raise it with ulimit -l unlimited, or run it as root",
	}
	for name, m := range machines() {
		var want, got string
		if lacks[name] != "" {
			want = "cannot trace block requests here: " + lacks[name]
		}
		if err := CannotTraceBlock(m.checker(t).check()); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestBackends(t *testing.T) {
	tests := map[string]struct {
		choice string
		works  map[string]bool
	}{
		"everything":    {"session", map[string]bool{"session": true, "multi": true, "kprobe": true}},
		"no session":    {"multi", map[string]bool{"multi": true, "kprobe": true}},
		"no fprobe":     {"kprobe", map[string]bool{"kprobe": true}},
		"old":           {"kprobe", map[string]bool{"kprobe": true}},
		"BTF in a file": {"multi", map[string]bool{"multi": true, "kprobe": true}},
		"no kprobes":    {"none", nil},
	}
	for name, tt := range tests {
		findings := machines()[name].checker(t).check()
		if got, why := ChooseBackend(findings); got != tt.choice || why == "" {
			t.Errorf("%s: backend %s (%s), want %s", name, got, why, tt.choice)
		}
		for _, backend := range []string{"session", "multi", "kprobe", "uprobe"} {
			if err := CheckBackend(findings, backend); (err == nil) != tt.works[backend] {
				t.Errorf("%s: CheckBackend(%s) = %v", name, backend, err)
			}
		}
	}
}

// TestCheckHere runs the real thing: on any machine, with any privilege, it
// gives every finding once.
func TestCheckHere(t *testing.T) {
	seen := make(map[string]int)
	for _, f := range Check() {
		seen[f.Name]++
		if f.Detail == "" || f.Status == StatusMissing && f.Fix == "" {
			t.Errorf("finding says too little: %+v", f)
		}
	}
	for _, name := range append(required(), FindingKprobes, FindingMulti, FindingSession, FindingBlock) {
		if seen[name] != 1 {
			t.Errorf("%s was found %d times", name, seen[name])
		}
	}
}
