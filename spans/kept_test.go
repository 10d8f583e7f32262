package spans

import (
	"testing"

	"github.com/otel-kprobe/otel-kprobe/internal/event"
)

// A packet that nobody was seen to free has the end that the last verdict on it tells,
// when nothing else went on with it.
func TestKept(t *testing.T) {
	const accept, stolen, queue = 1, 2, 3 | 5<<16
	hooks := func(j *testJourney, ret uint64, inside func()) {
		j.in("ip_rcv", 0, func() { j.in("nf_hook_slow", ret, inside) })
	}
	for _, c := range []struct {
		name      string
		build     func(j *testJourney)
		end, told string
	}{
		{"a known hook", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nf_conntrack_in", accept, nil); j.in("nf_nat_inet_fn", stolen, nil) })
		}, "stolen", "nf_nat_inet_fn"},
		{"a hook of a module that is not known", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nf_conntrack_in", accept, nil); j.in("their_hook", stolen, nil) })
		}, "stolen", "their_hook"},
		{"the same number from what is no hook", func(j *testJourney) {
			hooks(j, 1, func() { j.in("nf_conntrack_in", accept, nil); j.in("their_hook", stolen, nil) })
		}, "unfinished", ""},
		{"the hook was not seen", func(j *testJourney) { hooks(j, 0, nil) }, "unfinished", ""},
		{"left to a program, told by the hook", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nft_do_chain_ipv4", queue, nil) })
		}, "queued", "nft_do_chain_ipv4"},
		{"left to a program", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nft_do_chain_ipv4", queue, nil); j.in("nf_queue", 0, nil) })
		}, "queued", "nf_queue"},
		{"no program listens: the queue is passed by", func(j *testJourney) {
			hooks(j, 1, func() {
				j.in("nft_do_chain_ipv4", queue, nil)
				j.in("nf_queue", 1, nil)
				j.in("nf_confirm", accept, nil)
			})
		}, "unfinished", ""},
		{"another one went on with it later", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nf_nat_inet_fn", stolen, nil) })
			j.in("ip_local_deliver", 0, nil)
		}, "unfinished", ""},
		{"the thief sends it by itself", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nf_flow_offload_ip_hook", stolen, func() { j.in("__dev_queue_xmit", 0, nil) }) })
		}, "unfinished", ""},
		{"it waits for the other fragments", func(j *testJourney) {
			hooks(j, 0, func() { j.in("ipv4_conntrack_defrag", stolen, func() { j.in("ip_frag_queue", 0, nil) }) })
		}, "unfinished", ""},
		{"accepted by a later hook", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nf_nat_inet_fn", stolen, nil) })
			hooks(j, 1, func() { j.in("nf_conntrack_in", accept, nil) })
		}, "unfinished", ""},
		{"an action", func(j *testJourney) {
			j.in("__netif_receive_skb_core", 0, func() { j.in("tcf_classify", 9, nil) })
		}, "stolen", "tcf_classify"},
		{"a tc program", func(j *testJourney) {
			j.in("__netif_receive_skb_core", 0, func() { j.in("tcf_classify", 4, func() { j.in("program", 4, nil) }) })
		}, "stolen", "tc:judge"},
		{"a tc program that lets it pass", func(j *testJourney) {
			j.in("__netif_receive_skb_core", 0, func() { j.in("program", 0, nil) })
		}, "unfinished", ""},
		{"a clone was freed, the packet was not", func(j *testJourney) {
			hooks(j, 0, func() { j.in("nf_nat_inet_fn", stolen, nil) })
			j.skb = skbB
			j.in("nf_conntrack_in", accept, nil)
			j.end(event.EndConsumed, 0, 0)
		}, "stolen", "nf_nat_inet_fn"},
		{"no verdict", func(j *testJourney) { j.in("ip_rcv", 0, nil) }, "unfinished", ""},
	} {
		k := programKernel{newFakeKernel()}
		k.byName["program"] = event.ProgramFunc(event.HookTC, 17)
		j := newTestJourney(k.fakeKernel, 23)
		j.addFacts(echoRequest)
		c.build(j)
		j.Unfinished = true
		tr := NewBuilder(Options{Names: k, Clock: k}).Build(&j.Journey)
		if tr.End != c.end || tr.EndFunction != c.told {
			t.Errorf("%s: end %q by %q, want %q by %q", c.name, tr.End, tr.EndFunction, c.end, c.told)
		}
		if got := texts(tr, 0, KeyEndFunction)[KeyEndFunction]; c.told != "" && got != `"`+c.told+`"` {
			t.Errorf("%s: the root says %s", c.name, got)
		}
	}
}

// The kernel side gave up an skb that it had not seen for long.
func TestKeptWhenEvicted(t *testing.T) {
	for _, c := range []struct {
		how  event.EndHow
		want string
	}{{event.EndEvicted, "stolen"}, {event.EndConsumed, "consumed"}} {
		j := newTestJourney(newFakeKernel(), 24)
		j.addFacts(echoRequest)
		j.in("nf_hook_slow", 0, func() { j.in("their_hook", 2, nil) })
		j.end(c.how, 0, 0)
		if tr := testBuilder(j.k).Build(&j.Journey); tr.End != c.want {
			t.Errorf("end %d: %q, want %q", c.how, tr.End, c.want)
		}
	}
}
