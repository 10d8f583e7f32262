package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf/link"

	"github.com/otel-kprobe/otel-kprobe/bpf"
	"github.com/otel-kprobe/otel-kprobe/internal/kernel"
)

// ruleFunction is a function of a packet filter that tells which rules a packet
// meets. It takes no skb, or its skb is not what matters.
type ruleFunction struct {
	function string
	program  string
	ret      string // program of its return, "" without
}

// nftFunctions are those of nftables on Linux 5.10 to 7.3; the last two evaluate
// the targets of iptables-nft.
func nftFunctions() []ruleFunction {
	return []ruleFunction{
		{"nft_do_chain", bpf.ProgramRuleChain, ""},
		{"nft_immediate_eval", bpf.ProgramRuleVerdict, ""},
		{"nft_reject_inet_eval", bpf.ProgramRuleReject, ""},
		{"nft_reject_ipv4_eval", bpf.ProgramRuleReject, ""},
		{"nft_reject_ipv6_eval", bpf.ProgramRuleReject, ""},
		{"nft_reject_bridge_eval", bpf.ProgramRuleReject, ""},
		{"nft_reject_netdev_eval", bpf.ProgramRuleReject, ""},
		{"nft_lookup_eval", bpf.ProgramRuleLookup, bpf.ProgramRuleEvaluated},
		{"nft_target_eval_xt", bpf.ProgramRuleTarget, bpf.ProgramRuleEvaluated},
		{"nft_target_eval_bridge", bpf.ProgramRuleTarget, bpf.ProgramRuleEvaluated},
	}
}

// xtFunctions are those of iptables-legacy and its kin.
func xtFunctions() []ruleFunction {
	return []ruleFunction{
		{"ipt_do_table", bpf.ProgramRuleTable, ""},
		{"ip6t_do_table", bpf.ProgramRuleTable, ""},
		{"arpt_do_table", bpf.ProgramRuleTable, ""},
	}
}

// ruleFunctions are those of the packet filters that the kernel has.
func ruleFunctions(filters kernel.PacketFilters) []ruleFunction {
	var all []ruleFunction
	if filters.NFTables {
		all = append(all, nftFunctions()...)
	}
	if filters.XTables {
		all = append(all, xtFunctions()...)
	}
	return all
}

// RulePrograms names the BPF programs that tell the rule of a drop, none when
// the kernel has no packet filter.
func RulePrograms(filters kernel.PacketFilters) []string {
	var names []string
	for _, f := range ruleFunctions(filters) {
		for _, name := range []string{f.program, f.ret} {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// attachRules attaches to those of the functions whose module is loaded: all at
// once, for a single kprobe is slow and mostly waits.
func (a *Attachment) attachRules(objects *bpf.Objects, backend Backend, filters kernel.PacketFilters) error {
	functions := ruleFunctions(filters)
	links, errs := make([][]link.Link, len(functions)), make([]error, len(functions))
	var wg sync.WaitGroup
	for i, f := range functions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			links[i], errs[i] = attachRule(objects, backend, f)
		}()
	}
	wg.Wait()
	for i, f := range functions {
		a.ends = append(a.ends, links[i]...)
		if err := errs[i]; errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrInvalid) {
			errs[i] = nil
		} else if err != nil {
			errs[i] = fmt.Errorf("attach to %s, which tells rules: %w", f.function, err)
		}
	}
	return errors.Join(errs...)
}

// attachRule attaches to the entry and, where that is wanted, to the return of a
// function. With an error, what is attached by then is given too.
func attachRule(objects *bpf.Objects, backend Backend, f ruleFunction) ([]link.Link, error) {
	entry, err := attachEnd(objects, backend, endFunction{function: f.function, program: f.program})
	if err != nil || f.ret == "" {
		return withoutNil(entry), err
	}
	program := objects.Programs[f.ret]
	var ret link.Link
	if backend == BackendKprobe {
		ret, err = link.Kretprobe(f.function, program, nil)
	} else {
		ret, err = link.KretprobeMulti(program, link.KprobeMultiOptions{Symbols: []string{f.function}})
	}
	return withoutNil(entry, ret), err
}

func withoutNil(links ...link.Link) []link.Link {
	return slices.DeleteFunc(links, func(l link.Link) bool { return l == nil })
}
