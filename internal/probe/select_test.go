package probe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"

	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel/btftest"
)

// fixture is a kernel by its files.
type fixture struct {
	vmlinux   []byte
	modules   map[string][]byte
	functions string // available_filter_functions
	addrs     string // available_filter_functions_addrs, or empty
	symbols   string // empty: hidden
	blacklist string
}

func (f fixture) sources(t *testing.T) Sources {
	t.Helper()
	dir := t.TempDir()
	write := func(path string, data []byte) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("btf/vmlinux", f.vmlinux)
	for name, data := range f.modules {
		write("btf/"+name, data)
	}
	functions := f.functions
	for line := range strings.Lines(f.addrs) {
		_, name, _ := strings.Cut(line, " ")
		functions += name
	}
	write("tracefs/available_filter_functions", []byte(functions))
	if f.addrs != "" {
		write("tracefs/available_filter_functions_addrs", []byte(f.addrs))
	}
	if f.blacklist != "" {
		write("blacklist", []byte(f.blacklist))
	}
	return Sources{
		BTFDir:    filepath.Join(dir, "btf"),
		Tracefs:   filepath.Join(dir, "tracefs"),
		Blacklist: filepath.Join(dir, "blacklist"),
		Symbols: func() (*kernel.Symbols, error) {
			if f.symbols == "" {
				return nil, kernel.ErrSymbolsHidden
			}
			return kernel.ParseSymbols(strings.NewReader(f.symbols))
		},
	}
}

// modern has all that can happen to a function, and a module.
func modern() fixture {
	b := newTypes()
	skbFuncs := []string{
		"ip_rcv", "inlined", "listed_twice", "black", "kfree_skbmem", "skb_clone", "__traceiter_net_dev_queue",
		"half", "cut", "plain_and_part", "constant", "two_variants",
	}
	for _, name := range skbFuncs {
		b.Func(name, b.integer, b.skbPtr)
	}
	b.Func("on_stack", b.integer, b.integer, b.integer, b.integer, b.integer, b.integer, b.integer, b.skbPtr)
	b.Func("skb_try_coalesce", b.boolean, b.skbPtr, b.skbPtr)
	b.Func("third_of_constant", 0, b.integer, b.integer, b.skbPtr)
	b.Func("__netif_receive_skb_core", b.integer, b.skbPtr2)
	b.Func("prepare_reply", b.integer, b.skbPtr2)
	b.Func("two_prototypes", b.integer, b.skbPtr)
	b.Func("two_prototypes", b.integer, b.integer, b.skbPtr)
	module := btftest.On(b.Builder)
	module.Func("veth_xmit", b.unsigned, b.skbPtr)
	module.Func("ip_rcv", b.unsigned, b.integer, b.skbPtr)
	addrs := strings.Join([]string{
		"ffffffff81000000 ip_rcv", "ffffffff81000014 listed_twice", "ffffffff81000024 listed_twice",
		"ffffffff81000030 black", "ffffffff81000040 kfree_skbmem", "ffffffff81000054 skb_clone",
		"ffffffff81000060 __traceiter_net_dev_queue", "ffffffff81000070 half.isra.0", "ffffffff81000080 cut.part.0",
		"ffffffff81000090 plain_and_part", "ffffffff810000a0 plain_and_part.part.0",
		"ffffffff810000b0 constant.constprop.0", "ffffffff810000c0 on_stack", "ffffffff810000d0 skb_try_coalesce",
		"ffffffff810000e0 third_of_constant.constprop.0", "ffffffff810000f4 __netif_receive_skb_core.constprop.0",
		"ffffffff81000100 prepare_reply", "ffffffff81000110 two_prototypes", "ffffffff81000120 two_variants.constprop.0",
		"ffffffff81000130 two_variants.constprop.1", "ffffffffc0000004 veth_xmit [veth]", "ffffffffc0000010 ip_rcv [veth]",
		"ffffffffc0000020 black [veth]", "damaged", "",
	}, "\n")
	return fixture{
		vmlinux:   b.Bytes(),
		modules:   map[string][]byte{"veth": module.Bytes()},
		addrs:     addrs,
		blacklist: "0xffffffff81000030-0xffffffff81000040\tblack\n",
	}
}

func table(t *testing.T, s Selection) string {
	t.Helper()
	var out bytes.Buffer
	if err := WriteTable(&out, s); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSelectGolden(t *testing.T) {
	s, err := Select(modern().sources(t), Options{Backend: BackendSession, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "select", table(t, s))
}

func TestSelectFunction(t *testing.T) {
	pattern, err := CompilePattern("skb_clone|veth_.*|__netif_receive_skb_core")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Select(modern().sources(t), Options{Backend: BackendMulti, Arch: "amd64", Pattern: pattern})
	if err != nil {
		t.Fatal(err)
	}
	want := Selection{Functions: []Function{
		{
			Name: "__netif_receive_skb_core", Symbol: "__netif_receive_skb_core.constprop.0", Addr: 0xffffffff810000f0,
			Indirect: true, Return: Return{ReturnSigned, 32},
		},
		{Name: "skb_clone", Symbol: "skb_clone", Addr: 0xffffffff81000050, Kin: bpf.KinClones, Return: Return{ReturnSigned, 32}},
		{Name: "veth_xmit", Module: "veth", Symbol: "veth_xmit", Addr: 0xffffffffc0000000, Return: Return{ReturnUnsigned, 32}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("selection (-want +got):\n%s", diff)
	}
}

// TestSelectBySymbols gives with kallsyms what it gives without.
func TestSelectBySymbols(t *testing.T) {
	opts := Options{Backend: BackendSession, Arch: "amd64"}
	f := modern()
	byAddrs, err := Select(f.sources(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(f.addrs) {
		site, name, _ := strings.Cut(line, " ")
		addr := entryOf("amd64", parseAddr([]byte(site)))
		f.symbols += fmt.Sprintf("%016x t %s", addr, strings.Replace(name, " [", "\t[", 1))
		f.functions += name
	}
	f.addrs = "" // as before Linux 6.5
	bySymbols, err := Select(f.sources(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(byAddrs, bySymbols); diff != "" {
		t.Errorf("selection (-by addresses +by symbols):\n%s", diff)
	}
}

// TestSelectOldKernel has neither module BTF nor addresses in tracefs.
func TestSelectOldKernel(t *testing.T) {
	b := newTypes()
	b.Func("ip_rcv", b.integer, b.skbPtr)
	b.Func("same", b.integer, b.skbPtr)
	b.Func("not_curated", b.integer, b.skbPtr)
	f := fixture{
		vmlinux: b.Bytes(),
		functions: "ip_rcv\nsame\nnot_curated\n__netif_receive_skb_core.constprop.0\n" +
			"veth_xmit [veth]\nstart_xmit [virtio_net]\nnf_conntrack_in [nf_conntrack]\n",
		symbols: "ffffffff81000010 T ip_rcv\nffffffff81000020 t same\nffffffff81000030 t same\nffffffff81000040 T not_curated\n" +
			"ffffffff81000050 t __netif_receive_skb_core.constprop.0\n" +
			"ffffffffc0000010 t veth_xmit\t[veth]\nffffffffc0000020 t start_xmit\t[virtio_net]\n",
	}
	curatedOnly, err := Select(f.sources(t), Options{Backend: BackendKprobe, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Function{
		{
			Name: "__netif_receive_skb_core", Symbol: "__netif_receive_skb_core.constprop.0",
			Addr: 0xffffffff81000050, Indirect: true, Return: Return{ReturnSigned, 32},
		},
		{Name: "ip_rcv", Symbol: "ip_rcv", Addr: 0xffffffff81000010, Return: Return{ReturnSigned, 32}},
		{Name: "veth_xmit", Module: "veth", Symbol: "veth_xmit", Addr: 0xffffffffc0000010, Return: Return{ReturnSigned, 32}},
		{Name: "start_xmit", Module: "virtio_net", Symbol: "start_xmit", Addr: 0xffffffffc0000020, Return: Return{ReturnSigned, 32}},
	}
	if diff := cmp.Diff(want, curatedOnly.Functions); diff != "" {
		t.Errorf("curated functions (-want +got):\n%s", diff)
	}
	pattern, err := CompilePattern("same|not_.*")
	if err != nil {
		t.Fatal(err)
	}
	asked, err := Select(f.sources(t), Options{Backend: BackendKprobe, Arch: "amd64", Pattern: pattern})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked := Selection{
		Functions: []Function{{Name: "not_curated", Symbol: "not_curated", Addr: 0xffffffff81000040, Return: Return{ReturnSigned, 32}}},
		Skipped:   []Skipped{{Name: "same", Reason: "ambiguous: 2 functions have this name"}},
	}
	if diff := cmp.Diff(wantAsked, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestSelectErrors(t *testing.T) {
	good := modern().sources(t)
	tests := map[string]struct {
		change func(*Sources, *Options)
		want   string
	}{
		"no BTF":       {func(s *Sources, _ *Options) { s.BTFDir += "x" }, "read kernel types"},
		"no tracefs":   {func(s *Sources, _ *Options) { s.Tracefs += "x" }, "list traceable functions"},
		"architecture": {func(_ *Sources, o *Options) { o.Arch = "s390x" }, "use amd64 or arm64"},
		"symbols":      {func(_ *Sources, o *Options) { o.Backend = BackendKprobe }, "kernel addresses are hidden"},
	}
	for name, tt := range tests {
		src, opts := good, Options{Backend: BackendSession, Arch: "amd64"}
		tt.change(&src, &opts)
		if _, err := Select(src, opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestCompilePattern(t *testing.T) {
	re, err := CompilePattern("ip_rcv|tcp_.*")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"ip_rcv": true, "tcp_v4_rcv": true, "ip_rcv_core": false, "__tcp_push": false, "ip_rc": false,
	} {
		if got := re.MatchString(name); got != want {
			t.Errorf("%s matches: %v, want %v", name, got, want)
		}
	}
	for _, expr := range []string{"(", "a)(b", "[z-a]"} {
		if _, err := CompilePattern(expr); err == nil {
			t.Errorf("%q compiles", expr)
		}
	}
}

func TestUsable(t *testing.T) {
	tests := map[string]struct {
		selection Selection
		pattern   string
		want      string
	}{
		"some":       {Selection{Functions: make([]Function, 1)}, "x", ""},
		"no match":   {Selection{}, "ip_rvc", `no function of this kernel that takes an skb matches "ip_rvc"`},
		"no skb":     {Selection{}, "", "no function of this kernel takes an skb"},
		"only these": {Selection{Skipped: []Skipped{{Name: "dst_output", Reason: "inlined"}}}, "dst_.*", "(dst_output: inlined)"},
	}
	for name, tt := range tests {
		err := tt.selection.Usable(tt.pattern)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestBegins(t *testing.T) {
	free, receive := Function{Name: "consume_skb", NoStart: true}, Function{Name: "ip_rcv"}
	if err := (Selection{Functions: []Function{free, receive}}).Begins("x"); err != nil {
		t.Error(err)
	}
	if err := (Selection{Functions: []Function{free}}).Begins("x"); err == nil || !strings.Contains(err.Error(), `match "x"`) {
		t.Errorf("%v, want an error that names the pattern", err)
	}
}

func TestEntryOf(t *testing.T) {
	tests := []struct {
		arch       string
		site, want uint64
	}{
		{"amd64", 0xffffffff81000010, 0xffffffff81000010},
		{"amd64", 0xffffffff81000014, 0xffffffff81000010}, // behind ENDBR64
		{"amd64", 0xffffffff81000018, 0},
		{"arm64", 0xffff800080000010, 0}, // ask kallsyms
	}
	for _, tt := range tests {
		if got := entryOf(tt.arch, tt.site); got != tt.want {
			t.Errorf("entryOf(%s, %#x) = %#x, want %#x", tt.arch, tt.site, got, tt.want)
		}
	}
}
