package probe

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/bpf"
)

func compiled(t *testing.T, expr string) *regexp.Regexp {
	t.Helper()
	pattern, err := CompilePattern(expr)
	if err != nil {
		t.Fatal(err)
	}
	return pattern
}

// withCallees has every fate of a function without an skb.
func withCallees() fixture {
	b := newTypes()
	b.Func("ip_rcv", b.integer, b.skbPtr)
	b.Func("fib_takes_skb", b.integer, b.skbPtr)
	b.Func("fib_plain", b.integer, b.integer)
	return fixture{
		vmlinux: b.Bytes(),
		addrs: strings.Join([]string{
			"ffffffff81000000 ip_rcv", "ffffffff81000010 fib_takes_skb", "ffffffff81000024 fib_plain",
			"ffffffff81000030 fib_twice", "ffffffff81000040 fib_twice", "ffffffff81000050 fib_changed.isra.0",
			"ffffffff81000060 fib_black", "ffffffff81000070 another", "ffffffff81000080 fib_cut",
			"ffffffff81000090 fib_cut.part.0", "ffffffffc0000004 fib_module [nf_tables]", "damaged", "",
		}, "\n"),
		blacklist: "0xffffffff81000060-0xffffffff81000070\tfib_black\n",
	}
}

func TestSelectCallees(t *testing.T) {
	f := withCallees()
	opts := Options{
		Backend: BackendSession, Arch: "amd64", Pattern: compiled(t, "ip_.*"), NonSkb: compiled(t, "fib_.*"),
	}
	got, err := Select(f.sources(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	want := Selection{
		Functions: []Function{{Name: "ip_rcv", Symbol: "ip_rcv", Addr: 0xffffffff81000000, Return: Return{ReturnSigned, 32}}},
		Callees: []Function{
			{Name: "fib_changed", Symbol: "fib_changed.isra.0", Addr: 0xffffffff81000050, NoSkb: true},
			{Name: "fib_cut", Symbol: "fib_cut", Addr: 0xffffffff81000080, NoSkb: true},
			{Name: "fib_plain", Symbol: "fib_plain", Addr: 0xffffffff81000020, NoSkb: true},
			{Name: "fib_module", Module: "nf_tables", Symbol: "fib_module", Addr: 0xffffffffc0000000, NoSkb: true},
		},
		SkippedCallees: []Skipped{
			{Name: "fib_black", Reason: "blacklisted for kprobes by the kernel"},
			{Name: "fib_twice", Reason: "ambiguous: 2 functions have this name"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("selection (-want +got):\n%s", diff)
	}
	compareGolden(t, "callees", table(t, got))
}

// TestSelectCalleesOldKernel has neither addresses nor the types of modules: what
// is known to take an skb there is no function without one.
func TestSelectCalleesOldKernel(t *testing.T) {
	b := newTypes()
	b.Func("ip_rcv", b.integer, b.skbPtr)
	f := fixture{
		vmlinux:   b.Bytes(),
		functions: "ip_rcv\nfib_plain\nfib_hidden\nveth_xmit [veth]\nveth_poll [veth]\n",
		symbols: "ffffffff81000000 T ip_rcv\nffffffff81000010 t fib_plain\n" +
			"ffffffffc0000000 t veth_xmit\t[veth]\nffffffffc0000010 t veth_poll\t[veth]\n",
	}
	got, err := Select(f.sources(t), Options{Backend: BackendKprobe, Arch: "amd64", NonSkb: compiled(t, "fib_.*|veth_.*")})
	if err != nil {
		t.Fatal(err)
	}
	want := []Function{
		{Name: "fib_plain", Symbol: "fib_plain", Addr: 0xffffffff81000010, NoSkb: true},
		{Name: "veth_poll", Module: "veth", Symbol: "veth_poll", Addr: 0xffffffffc0000010, NoSkb: true},
	}
	if diff := cmp.Diff(want, got.Callees); diff != "" {
		t.Errorf("functions without an skb (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Skipped{{Name: "fib_hidden", Reason: "has no symbol in kallsyms"}}, got.SkippedCallees); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

func TestOwnRules(t *testing.T) {
	own := ownRules()
	for name, want := range map[string]bool{
		"htab_map_update_elem": true, "__htab_map_lookup_elem": true, "bpf_ringbuf_submit": true, "bpf_get_current_comm": true,
		"fprobe_entry": true, "kprobe_dispatcher": true, "trace_call_bpf": true, "arch_rethook_prepare": true,
		"bpf_lsm_socket_sendmsg": false, "fib_table_lookup": false, "get_perf_counters": false, "htable_find": false,
	} {
		if got := own.reason(name) != ""; got != want {
			t.Errorf("%s is our own: %t, want %t", name, got, want)
		}
	}
}

func TestUsableCallees(t *testing.T) {
	tests := []struct {
		name      string
		selection Selection
		pattern   string
		backend   string
		want      string
	}{
		{"not asked for", Selection{}, "", BackendSession, ""},
		{"some", Selection{Callees: make([]Function, 2)}, "fib_.*", BackendKprobe, ""},
		{"none", Selection{}, "fbi_.*", BackendSession, `no function of this kernel without an skb matches "fbi_.*"`},
		{
			"only these",
			Selection{SkippedCallees: []Skipped{{Name: "fib_x", Reason: "ambiguous"}}},
			"fib_x", BackendMulti,
			`none of the 1 functions without an skb that match "fib_x" can be probed (fib_x: ambiguous)`,
		},
		{"many", Selection{Callees: make([]Function, maxCallees)}, ".*", BackendMulti, ""},
		{"too many", Selection{Callees: make([]Function, maxCallees+1)}, ".*", BackendSession, "at most 4096 can be probed"},
		{
			"too many for single kprobes",
			Selection{Callees: make([]Function, maxSingleCallees+1)},
			".*", BackendKprobe,
			"attaches to them one by one and takes at most 256: narrow the expression",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.selection.UsableCallees(tt.pattern, tt.backend)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestCalleePrograms(t *testing.T) {
	functions := []Function{{Arg: 1}, {NoSkb: true}, {NoSkb: true}}
	for backend, want := range map[Backend][]string{
		BackendSession: {bpf.ProgramProbe, bpf.ProgramCallee},
		BackendMulti:   {"plain_1", bpf.ProgramCallee, bpf.ProgramLeave},
		BackendKprobe:  {"plain_1", bpf.ProgramCallee, bpf.ProgramLeave},
	} {
		got := backend.Programs(functions, false)
		if !slices.Equal(got[len(got)-len(want):], want) {
			t.Errorf("%s loads %v, want %v at the end", backend, got, want)
		}
	}
	withSkb, callees := splitCallees(functions)
	if len(withSkb) != 1 || len(callees) != 2 {
		t.Errorf("%d functions with an skb and %d without, want 1 and 2", len(withSkb), len(callees))
	}
}
