package spans

import "testing"

func TestResultsHaveNames(t *testing.T) {
	tests := []struct {
		function string
		register uint64
		value    int64
		want     string
	}{
		{"nf_hook_slow", 1, 1, "NF_ACCEPT"},
		{"nf_hook_slow", 0, 0, "NF_STOLEN or NF_QUEUE"},
		{"nf_hook_slow", 0xffffffff, -1, "NF_DROP"},
		{"nf_hook_slow", 0xffffff91, -111, "NF_DROP"},
		{"nft_do_chain_inet", 0, 0, "NF_DROP"},
		{"nft_do_chain_inet", 1, 1, "NF_ACCEPT"},
		{"ipt_do_table", 0, 0, "NF_DROP"},
		{"ipt_do_table", 0x00030003, 0x00030003, "NF_QUEUE"}, // to queue 3
		{"selinux_ip_postroute", 0xff910000, 0xff910000, "NF_DROP"},
		{"nf_conntrack_in", 4, 4, "NF_REPEAT"},
		{"nf_conntrack_in", 9, 9, ""},
		{"__dev_queue_xmit", 0, 0, "NET_XMIT_SUCCESS"},
		{"__dev_queue_xmit", 1, 1, "NET_XMIT_DROP"},
		{"__dev_queue_xmit", 0xfffffff4, -12, "ENOMEM"},
		{"fq_codel_enqueue", 2, 2, "NET_XMIT_CN"},
		{"netem_enqueue", 0x10000, 0x10000, "NET_XMIT_SUCCESS|__NET_XMIT_STOLEN"},
		{"htb_enqueue", 0x20001, 0x20001, "NET_XMIT_DROP|__NET_XMIT_BYPASS"},
		{"dev_qdisc_enqueue", 77777777, 77777777, ""},
		{"dev_hard_start_xmit", 0, 0, "NETDEV_TX_OK"},
		{"veth_xmit", 0x10, 16, "NETDEV_TX_BUSY"},
		{"veth_xmit", 1, 1, "NET_XMIT_DROP"},
		{"netif_rx", 1, 1, "NET_RX_DROP"},
		{"tcf_classify", 0xffffffff, -1, "TC_ACT_UNSPEC"},
		{"tcf_classify", 4, 4, "TC_ACT_STOLEN"},
		{"tcf_action_exec", 9, 9, "TC_ACT_CONSUMED"},
		{"tcf_action_exec", 0x10000002, 0x10000002, ""}, // a jump
		{"ip_rcv", 0xffffffff, -1, "EPERM"},
		{"__udp_enqueue_schedule_skb", 0xfffffff4, -12, "ENOMEM"},
		{"__udp_enqueue_schedule_skb", 0xffffff97, -105, "ENOBUFS"},
		{"__udp_enqueue_schedule_skb", 0, 0, ""},
		{"__udp_enqueue_schedule_skb", 0xffff0000, -65536, ""},
		{"__ip_local_out", 1, 1, ""}, // 1 is "go on", not a result
	}
	for _, tt := range tests {
		f := Function{Name: tt.function}
		stage, _ := classify(f)
		value := KnownReturn(f).value(tt.register)
		if got := resultOf(f.Name, stage).text(value); value != tt.value || got != tt.want {
			t.Errorf("%s returns %d, %q; want %d, %q", tt.function, value, got, tt.value, tt.want)
		}
	}
}

// What has a name must be written as a number too.
func TestResultsAreKnownReturns(t *testing.T) {
	for _, name := range []string{"nf_hook_slow", "ipt_do_table", "fq_enqueue", "sock_queue_rcv_skb", "nft_do_chain_ipv4", "br_dev_xmit", "tcf_classify"} {
		f := Function{Name: name}
		stage, _ := classify(f)
		named := resultOf(name, stage) != resultNone
		if known := KnownReturn(f) != ReturnNone; known != named {
			t.Errorf("%s: return known %v, its meaning %v", name, known, named)
		}
	}
}
