package kernel

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// typesWith makes types: a struct for each name, a function with one named
// parameter for each "name(parameter".
func typesWith(t *testing.T, names ...string) *btf.Spec {
	t.Helper()
	types := []btf.Type{&btf.Struct{Name: "list_head", Size: 16}}
	for _, name := range names {
		function, parameter, isFunc := strings.Cut(name, "(")
		if !isFunc {
			types = append(types, &btf.Struct{Name: name})
			continue
		}
		types = append(types, &btf.Func{Name: function, Linkage: btf.StaticFunc, Type: &btf.FuncProto{
			Return: &btf.Int{Name: "int", Size: 4},
			Params: []btf.FuncParam{{Name: parameter, Type: &btf.Pointer{Target: &btf.Void{}}}},
		}})
	}
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := b.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestReadPacketFilters(t *testing.T) {
	tests := []struct {
		name                 string
		loaded               []string            // modules
		vmlinux              []string            // as for typesWith
		modules              map[string][]string // types of modules that have some
		nft, xt, priv, types bool
	}{
		{name: "none"},
		{name: "5.10", loaded: []string{"nf_tables", "ip_tables"}, nft: true, xt: true},
		{
			name: "6.12", loaded: []string{"nf_tables", "ip6_tables"},
			modules: map[string][]string{"nf_tables": {"nft_chain"}, "ip6_tables": {"ip6t_do_table(priv"}},
			nft:     true, xt: true, priv: true, types: true,
		},
		{name: "5.15", loaded: []string{"ip_tables"}, modules: map[string][]string{"ip_tables": {"ipt_do_table(skb"}}, xt: true},
		{name: "built in", vmlinux: []string{"nft_chain", "ipt_do_table(priv"}, nft: true, xt: true, priv: true},
		{name: "arptables only", loaded: []string{"arp_tables"}, xt: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			module := func(name string) (*btf.Spec, error) {
				if types, ok := tt.modules[name]; ok {
					return typesWith(t, types...), nil
				}
				return nil, fmt.Errorf("open: %w", fs.ErrNotExist)
			}
			got, err := ReadPacketFilters(tt.loaded, typesWith(t, tt.vmlinux...), module)
			if err != nil {
				t.Fatal(err)
			}
			if got.NFTables != tt.nft || got.XTables != tt.xt || got.PrivFirst != tt.priv || (got.Types != nil) != tt.types {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestReadPacketFiltersFails(t *testing.T) {
	module := func(string) (*btf.Spec, error) { return nil, fs.ErrPermission }
	if _, err := ReadPacketFilters([]string{"nf_tables"}, typesWith(t), module); err == nil || !strings.Contains(err.Error(), "read types of kernel module nf_tables") {
		t.Errorf("error %v", err)
	}
}
