package probe

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseModules(t *testing.T) {
	loaded := []string{"ip_gre", "veth"}
	got, err := ParseModules([]string{"ip-gre", " veth", "vmlinux"}, loaded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ip_gre", "veth", "vmlinux"}, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	_, err = ParseModules([]string{"veth", "wireguard"}, loaded)
	want := `module "wireguard" is not loaded: see lsmod; what is built into the kernel belongs to vmlinux`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func namesOf(s Selection) []string {
	var names []string
	for _, f := range s.Functions {
		names = append(names, moduleOf(f.Module)+" "+f.Name)
	}
	return names
}

func TestSelectModules(t *testing.T) {
	symbols := "ffffffff81000000 T ip_rcv\nffffffff81000050 T skb_clone\nffffffffc0000000 t veth_xmit\t[veth]\nffffffffc0000010 t ip_rcv\t[veth]\n"
	for _, c := range []struct {
		name string
		opts Options
		want []string
	}{
		{"a module", Options{Backend: BackendSession, Modules: []string{"veth"}}, []string{"veth ip_rcv", "veth veth_xmit"}},
		{"by name", Options{Backend: BackendSession, Modules: []string{"veth", Kernel}, Pattern: mustCompile(t, "ip_.*")}, []string{moduleOf("") + " ip_rcv", "veth ip_rcv"}},
		{"the whole module instead of the path", Options{Backend: BackendKprobe, Modules: []string{"veth"}}, []string{"veth ip_rcv", "veth veth_xmit"}},
		{"of the kernel the path", Options{Backend: BackendKprobe, Modules: []string{Kernel}}, []string{moduleOf("") + " ip_rcv", moduleOf("") + " skb_clone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kernel := modern()
			kernel.symbols = symbols
			c.opts.Arch = "amd64"
			s, err := Select(kernel.sources(t), c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, namesOf(s)); diff != "" {
				t.Errorf("functions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHasModules(t *testing.T) {
	s := Selection{Functions: []Function{{Name: "ip_rcv"}, {Name: "veth_xmit", Module: "veth"}}}
	for _, c := range []struct {
		modules []string
		pattern string
		want    string
	}{
		{nil, "", ""},
		{[]string{"veth", Kernel}, "", ""},
		{[]string{"veth", "tun"}, "", "module tun has no function that takes an skb and can be probed: see 'otel-kprobe functions'"},
		{[]string{"tun"}, "x.*", `module tun has no function that takes an skb, can be probed and matches "x.*": see 'otel-kprobe functions'`},
	} {
		got := ""
		if err := s.HasModules(c.modules, c.pattern); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v, %q: error %q, want %q", c.modules, c.pattern, got, c.want)
		}
	}
}

func mustCompile(t *testing.T, pattern string) *regexp.Regexp {
	t.Helper()
	re, err := CompilePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return re
}
