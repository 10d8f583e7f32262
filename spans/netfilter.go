package spans

import (
	"strconv"
	"strings"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// dropRule finds what of a packet filter dropped an skb: nil when nothing did, or
// when that is not certain.
func (b *Builder) dropRule(e *event.End, location string) *event.Rule {
	t := &b.trace
	for i := len(t.Rules) - 1; i >= 0; i-- {
		r := &t.Rules[i]
		if r.Skb != e.Skb || r.AtMonoNs > e.AtMonoNs {
			continue
		}
		if b.endedBetween(e, r.AtMonoNs) {
			return nil // of an earlier skb of that address
		}
		if r.What == event.RuleDrops || b.filterDropped(e, r.What, location) {
			return r
		}
		return nil
	}
	return nil
}

// endedBetween says whether another skb of e's address ended since a time.
func (b *Builder) endedBetween(e *event.End, sinceMonoNs uint64) bool {
	for i := range b.trace.Ends {
		o := &b.trace.Ends[i]
		if o.Skb == e.Skb && o.AtMonoNs >= sinceMonoNs && o.AtMonoNs < e.AtMonoNs {
			return true
		}
	}
	return false
}

// filterDropped says whether the chain or table that an skb went through last
// dropped it. Since Linux 6.9 nft_do_chain frees it itself. Else nf_hook_slow does
// and asks no further hook: so the last of the hooks that are probed decided, if it
// says so. Where that says that the packet may pass, or none is probed, it was one
// that is not, and only a policy or a table is taken for it.
func (b *Builder) filterDropped(e *event.End, what event.RuleWhat, location string) bool {
	if strings.HasPrefix(location, "nft_do_chain+") {
		return what != event.RuleTable
	}
	if !strings.HasPrefix(location, "nf_hook_slow+") {
		return false
	}
	var name, result string
	if hook := b.lastHook(e); hook != nil {
		name = hook.Name
		result = resultHook.text(b.names.function(hook.Frame.Func).ret.value(hook.Frame.Return))
	}
	nft, xt := strings.HasPrefix(name, "nft_do_chain"), strings.HasSuffix(name, "t_do_table")
	switch what {
	case event.RuleTable:
		return result == "NF_DROP" && xt || result != "NF_DROP" && !xt
	case event.RulePolicy:
		return result == "NF_DROP" && nft || result != "NF_DROP" && !nft
	default:
		return result == "NF_DROP" && nft
	}
}

// lastHook is the span of the netfilter hook that returned last before an skb
// was dropped, nil when none is probed or returns are not known.
func (b *Builder) lastHook(e *event.End) *Span {
	var last *Span
	for i := range b.trace.Spans[1:] {
		s := &b.trace.Spans[i+1]
		if s.Wait || s.Frame.Skb != e.Skb || s.Incomplete || s.Frame.Flags&event.FrameEntryOnly != 0 || s.ExitMonoNs > e.AtMonoNs {
			continue
		}
		if b.names.function(s.Frame.Func).means == resultHook && (last == nil || s.ExitMonoNs >= last.ExitMonoNs) {
			last = s
		}
	}
	return last
}

// markRule gives the span of a drop, and for the first drop the root, what is
// known of its rule.
func (b *Builder) markRule(at int32, e *event.End, location string, first bool) {
	r := b.dropRule(e, location)
	if r == nil {
		return
	}
	if first {
		b.trace.DropRule = r
	}
	if at == 0 {
		return
	}
	s := &b.trace.Spans[at]
	from := len(b.attrs)
	b.attrs = append(b.attrs, s.Attrs...)
	b.ruleAttrs(r)
	s.Attrs = b.cut(from)
}

// ruleAttrs adds what is known of the rule.
func (b *Builder) ruleAttrs(r *event.Rule) {
	if s := netfilterFamily(r.Family); s != "" {
		b.add(StringAttr(KeyNetfilterFamily, s))
	}
	hook := netfilterHook(r.Family, r.Hook)
	b.add(StringAttr(KeyNetfilterTable, b.names.longName(r.Table)))
	chain := b.names.longName(r.Chain)
	if r.What == event.RuleTable {
		chain = builtinChain(hook)
	}
	if chain != "" {
		b.add(StringAttr(KeyNetfilterChain, chain))
	}
	if hook != "" {
		b.add(StringAttr(KeyNetfilterHook, hook))
	}
	b.add(StringAttr(KeyNetfilterRule, b.ruleName(r)))
}

func (b *Builder) ruleName(r *event.Rule) string {
	switch {
	case r.What == event.RulePolicy:
		return "policy"
	case r.Handle != 0 && (r.What == event.RuleDrops || r.What == event.RuleSuspect):
		return strconv.FormatUint(r.Handle, 10)
	default:
		return "unknown"
	}
}

// netfilterFamily is nft's word for an NFPROTO_… (include/uapi/linux/netfilter.h).
func netfilterFamily(f uint8) string {
	switch f {
	case 1:
		return "inet"
	case 2:
		return "ip"
	case 3:
		return "arp"
	case 5:
		return "netdev"
	case 7:
		return "bridge"
	case 10:
		return "ip6"
	}
	return ""
}

// netfilterHook is nft's word for a hook of a family.
func netfilterHook(family, hook uint8) string {
	switch family {
	case 3:
		return nameAt(int64(hook), "input", "output", "forward")
	case 5:
		return nameAt(int64(hook), "ingress", "egress")
	default:
		return nameAt(int64(hook), "prerouting", "input", "forward", "output", "postrouting", "ingress")
	}
}

// builtinChain is the chain of iptables-legacy that a hook begins with.
func builtinChain(hook string) string { return strings.ToUpper(hook) }
