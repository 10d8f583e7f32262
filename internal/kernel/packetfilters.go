package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cilium/ebpf/btf"
)

// PacketFilters says which packet filters the kernel has by now: their modules
// are loaded with the first rule.
type PacketFilters struct {
	NFTables bool // nftables, which iptables-nft uses too
	XTables  bool // the tables of iptables-legacy, ip6tables-legacy, arptables-legacy
	// PrivFirst says that ipt_do_table is a hook function, (priv, skb, state),
	// as since Linux 5.16; before it was called with (skb, state, table).
	PrivFirst bool
	// Types are those that nftables describes in its module's BTF, nil where
	// vmlinux has them or nothing does (before Linux 5.11).
	Types *btf.Spec
}

// ReadPacketFilters looks for the filters among the loaded modules (LoadedModules)
// and in the types of vmlinux. module gives a module's types
// (btf.LoadKernelModuleSpec); its fs.ErrNotExist says that it has none.
func ReadPacketFilters(modules []string, vmlinux *btf.Spec, module func(string) (*btf.Spec, error)) (PacketFilters, error) {
	loaded := func(name string) bool { return slices.Contains(modules, name) }
	f := PacketFilters{NFTables: loaded("nf_tables") || hasStruct(vmlinux, "nft_chain")}
	var err error
	if f.NFTables {
		if f.Types, err = typesOf(module, "nf_tables"); err != nil {
			return PacketFilters{}, err
		}
	}
	tables := [][2]string{{"ip_tables", "ipt_do_table"}, {"ip6_tables", "ip6t_do_table"}, {"arp_tables", "arpt_do_table"}}
	for _, t := range tables {
		function := functionIn(vmlinux, t[1])
		if !loaded(t[0]) && function == nil {
			continue
		}
		f.XTables = true
		if function == nil {
			types, err := typesOf(module, t[0])
			if err != nil {
				return PacketFilters{}, err
			}
			function = functionIn(types, t[1])
		}
		f.PrivFirst = f.PrivFirst || privFirst(function)
	}
	return f, nil
}

func typesOf(module func(string) (*btf.Spec, error), name string) (*btf.Spec, error) {
	types, err := module(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, btf.ErrNotSupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read types of kernel module %s: %w", name, err)
	}
	return types, nil
}

func hasStruct(types *btf.Spec, name string) bool {
	var s *btf.Struct
	return types.TypeByName(name, &s) == nil
}

// functionIn is nil when the types, which may be nil, have no such function.
func functionIn(types *btf.Spec, name string) *btf.Func {
	var f *btf.Func
	if types == nil || types.TypeByName(name, &f) != nil {
		return nil
	}
	return f
}

// privFirst is false for a function that is not known: kernels whose modules
// have no types are older than the change.
func privFirst(f *btf.Func) bool {
	if f == nil {
		return false
	}
	proto, ok := f.Type.(*btf.FuncProto)
	return ok && len(proto.Params) > 0 && proto.Params[0].Name == "priv"
}
