package spans

import "strings"

// frees says whether a function does nothing but let go of an skb, so that a
// drop inside it is its caller's.
func frees(name string) bool {
	for _, p := range [...]string{
		"kfree_skb", "__kfree_skb", "sk_skb_reason_drop", "consume_skb", "__consume_",
		"skb_release_", "kfree_skbmem", "skb_free_head", "skb_attempt_defer_free",
		"tcp_drop", "dev_kfree_skb", "napi_skb_free_stolen_head", "trace_kfree_skb",
		"__dev_kfree_skb", "napi_consume_skb",
	} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// KnownReturn tells how to read what well-known functions return; ReturnNone
// for those it does not know.
func KnownReturn(f Function) Return {
	switch f.Name {
	case "nf_hook_slow", "dev_hard_start_xmit", "__dev_queue_xmit", "dev_queue_xmit",
		"__dev_direct_xmit", "neigh_resolve_output", "neigh_connected_output", "neigh_direct_output",
		"ip_output", "ip_finish_output", "__ip_finish_output", "ip_finish_output2", "ip_mc_output",
		"ip_local_out", "__ip_local_out", "ip_queue_xmit", "__ip_queue_xmit", "ip_send_skb",
		"ip6_output", "ip6_xmit", "ip6_local_out", "ip6_finish_output", "ip6_send_skb",
		"ip_forward", "ip_forward_finish", "ip6_forward",
		"ip_rcv", "ip_rcv_finish", "ip_local_deliver", "ip_local_deliver_finish", "ipv6_rcv",
		"ip_do_fragment", "ip6_fragment", "udp_send_skb", "udp_v6_send_skb",
		"__tcp_transmit_skb", "tcp_v4_rcv", "tcp_v6_rcv", "tcp_v4_do_rcv", "tcp_v6_do_rcv",
		"udp_rcv", "udpv6_rcv", "__udp4_lib_rcv", "udp_queue_rcv_skb", "udp_unicast_rcv_skb",
		"icmp_rcv", "icmpv6_rcv", "arp_rcv", "ping_rcv", "ping_queue_rcv_skb",
		"netif_rx", "__netif_rx", "netif_rx_internal", "netif_receive_skb", "__netif_receive_skb",
		"__netif_receive_skb_one_core", "__netif_receive_skb_core", "enqueue_to_backlog",
		"veth_xmit", "loopback_xmit", "start_xmit", "packet_rcv", "tpacket_rcv",
		"sk_filter_trim_cap", "pfifo_fast_enqueue", "sock_queue_rcv_skb_reason",
		// Without an skb.
		"nft_do_chain", "fib_table_lookup", "__fib_lookup", "fib_rules_lookup", "fib6_table_lookup":
		return ReturnInt32
	case "sch_direct_xmit":
		return ReturnBool
	}
	stage, _ := classify(f)
	switch resultOf(f.Name, stage) {
	case resultNone:
		return ReturnNone
	case resultHook:
		return ReturnUint32
	default:
		return ReturnInt32
	}
}
