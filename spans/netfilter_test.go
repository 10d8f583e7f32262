package spans

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

func longFixed(s string) (b [64]byte) {
	copy(b[:63], s)
	return b
}

// filtered is a packet that goes through a hook's functions, in order, with what
// each returns, and is dropped by the function named in location.
type filtered struct {
	rule     event.Rule
	hooks    []string
	returns  []uint64
	location string
}

func (f filtered) journey(k *fakeKernel) *testJourney {
	j := newTestJourney(k, 21)
	j.addFacts(tcpSegment)
	j.in("ip_local_deliver", 0, func() {
		j.in("nf_hook_slow", 0xffffffff, func() {
			for i, name := range f.hooks {
				j.in(name, f.returns[i], nil)
			}
			f.rule.Skb, f.rule.AtMonoNs = j.skb, j.now
			if f.rule.What != 0 {
				j.Rules = append(j.Rules, f.rule)
			}
			j.end(event.EndDropped, 8, k.fn(f.location)+0x7b)
		})
	})
	return j
}

func TestRuleOfADrop(t *testing.T) {
	rule := func(what event.RuleWhat, handle uint64) event.Rule {
		return event.Rule{What: what, Handle: handle, Family: 1, Hook: 1, Table: longFixed("filter"), Chain: longFixed("in")}
	}
	nft := func(rule string) map[string]string {
		return map[string]string{"family": "inet", "table": "filter", "chain": "in", "hook": "input", "rule": rule}
	}
	legacy := event.Rule{What: event.RuleTable, Family: 10, Hook: 2, Table: longFixed("mangle")}
	xt := map[string]string{"family": "ip6", "table": "mangle", "chain": "FORWARD", "hook": "forward", "rule": "unknown"}
	const drop, accept = 0, 1
	tests := []struct {
		name string
		in   filtered
		want map[string]string
	}{
		{"no filter", filtered{location: "nf_hook_slow"}, nil},
		{"a rule decided", filtered{rule: rule(event.RuleDrops, 7), location: "nf_hook_slow"}, nft("7")},
		{"a rule whose handle is not known", filtered{rule: rule(event.RuleDrops, 0), location: "nf_hook_slow"}, nft("unknown")},
		{"policy, no hook is probed", filtered{rule: rule(event.RulePolicy, 0), location: "nf_hook_slow"}, nft("policy")},
		{"policy", filtered{rule(event.RulePolicy, 0), []string{"nft_do_chain_inet"}, []uint64{drop}, "nf_hook_slow"}, nft("policy")},
		{"policy, freed by nft_do_chain (6.9)", filtered{rule(event.RulePolicy, 0), []string{"nft_do_chain_inet"}, []uint64{2}, "nft_do_chain"}, nft("policy")},
		{"dropped later, by no netfilter hook", filtered{rule(event.RulePolicy, 0), nil, nil, "__udp4_lib_rcv"}, nil},
		{"the chain accepted, a hook that is not probed dropped", filtered{rule(event.RulePolicy, 0), []string{"nft_do_chain_inet"}, []uint64{accept}, "nf_hook_slow"}, nil},
		{"another hook dropped", filtered{rule(event.RulePolicy, 0), []string{"nft_do_chain_inet", "apparmor_ip_postroute"}, []uint64{accept, drop}, "nf_hook_slow"}, nil},
		{"a map's verdict, seen in the chain's", filtered{rule(event.RuleSuspect, 9), []string{"nft_do_chain_ipv4"}, []uint64{drop}, "nf_hook_slow"}, nft("9")},
		{"a map's verdict, the chain is not probed", filtered{rule: rule(event.RuleSuspect, 9), location: "nf_hook_slow"}, nil},
		{"unknown rule", filtered{rule(event.RuleUnknown, 0), []string{"nft_do_chain_ipv4"}, []uint64{drop}, "nf_hook_slow"}, nft("unknown")},
		{"iptables", filtered{legacy, []string{"nft_do_chain_inet", "ip6t_do_table"}, []uint64{accept, drop}, "nf_hook_slow"}, xt},
		{"iptables, not probed", filtered{rule: legacy, location: "nf_hook_slow"}, xt},
		{"iptables accepted", filtered{legacy, []string{"ip6t_do_table"}, []uint64{accept}, "nf_hook_slow"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKernel()
			tr := testBuilder(k).Build(&tt.in.journey(k).Journey)
			for _, span := range []int32{0, tr.DropSpan} {
				if diff := cmp.Diff(tt.want, netfilterOf(tr, span)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tr.Spans[span].Name, diff)
				}
			}
		})
	}
}

// netfilterOf gives what a span says of the packet filter, nil for nothing.
func netfilterOf(tr *Trace, span int32) map[string]string {
	names := map[Key]string{
		KeyNetfilterFamily: "family", KeyNetfilterTable: "table", KeyNetfilterChain: "chain",
		KeyNetfilterHook: "hook", KeyNetfilterRule: "rule",
	}
	var got map[string]string
	for _, a := range tr.Spans[span].Attrs {
		if name := names[a.Key]; name != "" {
			if got == nil {
				got = map[string]string{}
			}
			got[name] = a.Str
		}
	}
	return got
}

// An address that comes back within a journey brings no rule of its first life.
func TestRuleIsOfThatSkb(t *testing.T) {
	k := newFakeKernel()
	j := filtered{rule: event.Rule{What: event.RuleDrops, Handle: 7}, location: "nf_hook_slow"}.journey(k)
	j.now += 1000
	j.in("ip_rcv", 0, func() { j.end(event.EndDropped, 3, k.fn("ip_rcv")+1) })
	tr := testBuilder(k).Build(&j.Journey)
	for i := range tr.Spans {
		if tr.Spans[i].Name == "ip_rcv" && netfilterOf(tr, int32(i)) != nil {
			t.Error("a later skb of that address has the rule")
		}
	}
	if netfilterOf(tr, tr.DropSpan) == nil {
		t.Error("the first drop lacks its rule")
	}
}

func TestHookNames(t *testing.T) {
	for _, tt := range []struct {
		family, hook uint8
		want         string
	}{
		{2, 0, "prerouting"},
		{10, 4, "postrouting"},
		{1, 5, "ingress"},
		{3, 0, "input"},
		{3, 1, "output"},
		{5, 0, "ingress"},
		{5, 1, "egress"},
		{7, 2, "forward"},
		{2, 200, ""},
	} {
		if got := netfilterHook(tt.family, tt.hook); got != tt.want {
			t.Errorf("hook %d of family %s is %q, want %q", tt.hook, netfilterFamily(tt.family), got, tt.want)
		}
	}
}
