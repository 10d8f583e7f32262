package probe

import (
	"fmt"
	"io"
	"slices"

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

// attachRules attaches to those of the functions whose module is loaded.
func (a *Attachment) attachRules(at attacher, filters kernel.PacketFilters) error {
	links, err := attachAtOnce(ruleFunctions(filters), func(f ruleFunction) ([]io.Closer, error) {
		links, err := attachRule(at, f)
		if err != nil {
			err = fmt.Errorf("attach to %s, which tells rules: %w", f.function, err)
		}
		return links, err
	})
	a.ends = append(a.ends, links...)
	return err
}

// attachRule attaches to the entry and, where that is wanted, to the return of a
// function. With an error, what is attached by then is given too.
func attachRule(at attacher, f ruleFunction) ([]io.Closer, error) {
	entry, err := at.entry(f.function, f.program)
	if err != nil {
		return nil, err
	}
	links := []io.Closer{entry}
	if f.ret == "" {
		return links, nil
	}
	ret, err := at.ret(f.function, f.ret)
	if err != nil {
		return links, err
	}
	return append(links, ret), nil
}
