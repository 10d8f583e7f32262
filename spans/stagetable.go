package spans

import "strings"

// side tells in which direction a function handles packets.
type side uint8

const (
	sideNone    side = iota
	sideTx           // only packets on their way out
	sideRx           // only packets on their way in
	sideForward      // only packets that came in and are to go out
)

// rule classifies the functions whose names begin with prefix. A prefix that
// ends in a space stands for that exact name.
type rule struct {
	prefix string
	stage  Stage
	side   side
}

// rules lists well-known functions of Linux 5.15 to 6.18 that take an skb. The
// longest prefix wins. Functions that handle a received packet in order to
// answer it (icmp_send, tcp_v4_send_reset) have no side: the answer is another
// packet.
var rules = [...]rule{
	{"sock_queue_rcv_skb", StageSocket, sideRx},
	{"__sock_queue_rcv_skb", StageSocket, sideRx},
	{"sock_queue_err_skb", StageSocket, sideNone},
	{"sock_wfree ", StageSocket, sideNone},
	{"sock_rfree ", StageSocket, sideNone},
	{"sock_def_", StageSocket, sideNone},
	{"sk_filter_trim_cap", StageSocket, sideRx},
	{"sk_attach", StageSocket, sideNone},
	{"skb_recv_", StageSocket, sideRx},
	{"skb_copy_datagram_", StageSocket, sideNone},
	{"skb_copy_and_csum_datagram", StageSocket, sideRx},
	{"__skb_datagram_iter", StageSocket, sideRx},
	{"skb_set_owner_w", StageSocket, sideTx},
	{"packet_rcv", StageSocket, sideNone},
	{"packet_sendmsg", StageSocket, sideTx},
	{"packet_snd", StageSocket, sideTx},
	{"packet_xmit", StageSocket, sideTx},
	{"packet_direct_xmit", StageSocket, sideTx},
	{"packet_parse_headers", StageSocket, sideTx},
	{"tpacket_rcv", StageSocket, sideNone},
	{"tpacket_", StageSocket, sideTx},
	{"raw_send", StageSocket, sideTx},
	{"rawv6_send", StageSocket, sideTx},
	{"raw_rcv", StageSocket, sideRx},
	{"rawv6_rcv", StageSocket, sideRx},
	{"raw_local_deliver", StageSocket, sideRx},
	{"raw_v4_input", StageSocket, sideRx},
	{"raw6_local_deliver", StageSocket, sideRx},

	{"tcp_", StageTCP, sideNone},
	{"__tcp_", StageTCP, sideNone},
	{"tcp4_", StageTCP, sideNone},
	{"tcp6_", StageTCP, sideNone},
	{"tcp_v4_rcv", StageTCP, sideRx},
	{"tcp_v6_rcv", StageTCP, sideRx},
	{"tcp_v4_do_rcv", StageTCP, sideRx},
	{"tcp_v6_do_rcv", StageTCP, sideRx},
	{"tcp_v4_early_demux", StageTCP, sideRx},
	{"tcp_v6_early_demux", StageTCP, sideRx},
	{"tcp_rcv_", StageTCP, sideRx},
	{"tcp_data_queue", StageTCP, sideRx},
	{"tcp_queue_rcv", StageTCP, sideRx},
	{"tcp_ack ", StageTCP, sideRx},
	{"tcp_add_backlog", StageTCP, sideRx},
	{"tcp_filter", StageTCP, sideRx},
	{"tcp_gro_", StageTCP, sideRx},
	{"tcp4_gro_", StageTCP, sideRx},
	{"tcp6_gro_", StageTCP, sideRx},
	{"tcp_conn_request", StageTCP, sideRx},
	{"tcp_write_xmit", StageTCP, sideTx},
	{"tcp_transmit_skb", StageTCP, sideTx},
	{"__tcp_transmit_skb", StageTCP, sideTx},
	{"tcp_connect_queue_skb", StageTCP, sideTx},
	{"tcp_event_new_data_sent", StageTCP, sideTx},
	{"tcp_retransmit_skb", StageTCP, sideTx},
	{"__tcp_retransmit_skb", StageTCP, sideTx},
	{"tcp_fragment", StageTCP, sideTx},
	{"tcp_skb_entail", StageTCP, sideTx},
	{"tcp_options_write", StageTCP, sideTx},
	{"__tcp_v4_send_check", StageTCP, sideTx},
	{"inet_csk_", StageTCP, sideNone},
	{"mptcp_", StageTCP, sideNone},

	{"udp_", StageUDP, sideNone},
	{"__udp", StageUDP, sideNone},
	{"udp4_", StageUDP, sideNone},
	{"udp6_", StageUDP, sideNone},
	{"udpv6_", StageUDP, sideNone},
	{"udplite_", StageUDP, sideNone},
	{"udp_rcv ", StageUDP, sideRx},
	{"udpv6_rcv ", StageUDP, sideRx},
	{"__udp4_lib_rcv", StageUDP, sideRx},
	{"__udp6_lib_rcv", StageUDP, sideRx},
	{"udp_unicast_rcv_skb", StageUDP, sideRx},
	{"udp_queue_rcv", StageUDP, sideRx},
	{"udpv6_queue_rcv", StageUDP, sideRx},
	{"__udp_enqueue_schedule_skb", StageUDP, sideRx},
	{"skb_consume_udp", StageUDP, sideRx},
	{"udp_gro_", StageUDP, sideRx},
	{"udp4_gro_", StageUDP, sideRx},
	{"udp6_gro_", StageUDP, sideRx},
	{"udp_send_skb", StageUDP, sideTx},
	{"udp_v6_send_skb", StageUDP, sideTx},
	{"udp4_hwcsum", StageUDP, sideTx},

	{"icmp_", StageICMP, sideNone},
	{"__icmp_send", StageICMP, sideNone},
	{"icmpv6_", StageICMP, sideNone},
	{"icmp6_", StageICMP, sideNone},
	{"icmp_rcv", StageICMP, sideRx},
	{"icmpv6_rcv", StageICMP, sideRx},
	{"icmp_echo", StageICMP, sideRx},
	{"icmpv6_echo_reply", StageICMP, sideRx},
	{"ping_", StageICMP, sideNone},
	{"ping_rcv", StageICMP, sideRx},
	{"ping_queue_rcv_skb", StageICMP, sideRx},
	{"ndisc_", StageICMP, sideNone},
	{"ndisc_rcv", StageICMP, sideRx},
	{"ndisc_send_skb", StageICMP, sideTx},
	{"igmp_", StageICMP, sideNone},
	{"igmp_rcv", StageICMP, sideRx},

	{"ip_", StageIP, sideNone},
	{"__ip_", StageIP, sideNone},
	{"ip6_", StageIP, sideNone},
	{"__ip6_", StageIP, sideNone},
	{"ipv6_", StageIP, sideNone},
	{"ipv4_", StageIP, sideNone},
	{"inet_gro_", StageIP, sideRx},
	{"inet_gso_", StageIP, sideTx},
	{"ipv6_gro_", StageIP, sideRx},
	{"ip_rcv", StageIP, sideRx},
	{"ip_list_rcv", StageIP, sideRx},
	{"ip_sublist_rcv", StageIP, sideRx},
	{"ip_local_deliver", StageIP, sideRx},
	{"ip_protocol_deliver_rcu", StageIP, sideRx},
	{"ip_check_defrag", StageIP, sideRx},
	{"ip_defrag", StageIP, sideRx},
	{"ipv6_rcv", StageIP, sideRx},
	{"ip6_rcv_", StageIP, sideRx},
	{"ip6_input", StageIP, sideRx},
	{"ip6_protocol_deliver_rcu", StageIP, sideRx},
	{"ip6_mc_input", StageIP, sideRx},
	{"ip_forward", StageIP, sideForward},
	{"ip6_forward", StageIP, sideForward},
	{"ip_mr_forward", StageIP, sideForward},
	{"ip_local_out", StageIP, sideTx},
	{"__ip_local_out", StageIP, sideTx},
	{"ip6_local_out", StageIP, sideTx},
	{"__ip6_local_out", StageIP, sideTx},
	{"ip_queue_xmit", StageIP, sideTx},
	{"__ip_queue_xmit", StageIP, sideTx},
	{"ip_build_and_send_pkt", StageIP, sideTx},
	{"ip_send_skb", StageIP, sideTx},
	{"ip6_send_skb", StageIP, sideTx},
	{"ip_push_pending_frames", StageIP, sideTx},
	{"ip_output", StageIP, sideTx},
	{"ip_mc_output", StageIP, sideTx},
	{"ip_finish_output", StageIP, sideTx},
	{"__ip_finish_output", StageIP, sideTx},
	{"ip_do_fragment", StageIP, sideTx},
	{"ip_fragment", StageIP, sideTx},
	{"ip6_xmit", StageIP, sideTx},
	{"ip6_output", StageIP, sideTx},
	{"ip6_finish_output", StageIP, sideTx},
	{"__ip6_finish_output", StageIP, sideTx},
	{"ip6_fragment", StageIP, sideTx},
	{"ip_tunnel_", StageIP, sideNone},
	{"iptunnel_xmit", StageIP, sideTx},
	{"ipgre_", StageIP, sideNone},
	{"gre_rcv", StageIP, sideRx},
	{"xfrm", StageIP, sideNone},
	{"__xfrm", StageIP, sideNone},
	{"esp_", StageIP, sideNone},
	{"esp6_", StageIP, sideNone},
	{"inet6_", StageIP, sideNone},
	{"lwtunnel_", StageIP, sideNone},

	{"nf_", StageNetfilter, sideNone},
	{"__nf_", StageNetfilter, sideNone},
	{"nft_", StageNetfilter, sideNone},
	{"ipt_", StageNetfilter, sideNone},
	{"ip6t_", StageNetfilter, sideNone},
	{"xt_", StageNetfilter, sideNone},
	{"ebt_", StageNetfilter, sideNone},
	{"iptable_", StageNetfilter, sideNone},
	{"ip6table_", StageNetfilter, sideNone},
	{"ip_vs_", StageNetfilter, sideNone},
	{"br_nf_", StageNetfilter, sideNone},
	{"selinux_", StageNetfilter, sideNone},
	{"apparmor_", StageNetfilter, sideNone},
	{"security_", StageNetfilter, sideNone},

	{"fib_", StageRouting, sideNone},
	{"__fib_", StageRouting, sideNone},
	{"fib6_", StageRouting, sideNone},
	{"ip_route_", StageRouting, sideNone},
	{"ip_route_input", StageRouting, sideRx},
	{"ip_mc_validate_source", StageRouting, sideRx},
	{"ip_route_use_hint", StageRouting, sideRx},
	{"ip6_route_", StageRouting, sideNone},
	{"ip6_route_input", StageRouting, sideRx},
	{"ip6_pkt_discard", StageRouting, sideNone},
	{"ip6_link_failure", StageRouting, sideNone},
	{"ip_rt_", StageRouting, sideNone},
	{"ipv4_link_failure", StageRouting, sideNone},
	{"rt6_", StageRouting, sideNone},
	{"__mkroute_", StageRouting, sideNone},
	{"dst_", StageRouting, sideNone},

	{"neigh_", StageNeighbour, sideNone},
	{"__neigh_", StageNeighbour, sideNone},
	{"neigh_resolve_output", StageNeighbour, sideTx},
	{"neigh_connected_output", StageNeighbour, sideTx},
	{"neigh_direct_output", StageNeighbour, sideTx},
	{"neigh_hh_output", StageNeighbour, sideTx},
	{"arp_", StageNeighbour, sideNone},
	{"arp_rcv", StageNeighbour, sideRx},
	{"arp_process", StageNeighbour, sideRx},
	{"arp_xmit", StageNeighbour, sideTx},
	{"eth_header", StageNeighbour, sideTx},

	{"sch_direct_xmit", StageQdisc, sideTx},
	{"__dev_xmit_skb", StageQdisc, sideTx},
	{"dev_requeue_skb", StageQdisc, sideTx},
	{"dev_qdisc_enqueue", StageQdisc, sideTx},
	{"pfifo_", StageQdisc, sideTx},
	{"bfifo_", StageQdisc, sideTx},
	{"qdisc_", StageQdisc, sideTx},
	{"__qdisc_", StageQdisc, sideTx},
	{"fq_", StageQdisc, sideTx},
	{"codel_", StageQdisc, sideTx},
	{"htb_", StageQdisc, sideTx},
	{"tbf_", StageQdisc, sideTx},
	{"netem_", StageQdisc, sideTx},
	{"cake_", StageQdisc, sideTx},
	{"sfq_", StageQdisc, sideTx},
	{"prio_", StageQdisc, sideTx},
	{"noop_enqueue", StageQdisc, sideTx},
	{"noqueue_", StageQdisc, sideTx},

	{"dev_queue_xmit", StageDevice, sideTx},
	{"__dev_queue_xmit", StageDevice, sideTx},
	{"__dev_direct_xmit", StageDevice, sideTx},
	{"dev_hard_start_xmit", StageDevice, sideTx},
	{"dev_loopback_xmit", StageDevice, sideTx},
	{"dev_queue_xmit_nit", StageDevice, sideTx},
	{"validate_xmit_", StageDevice, sideTx},
	{"netdev_core_pick_tx", StageDevice, sideTx},
	{"netdev_pick_tx", StageDevice, sideTx},
	{"netif_skb_features", StageDevice, sideTx},
	{"passthru_features_check", StageDevice, sideTx},
	{"skb_network_protocol", StageDevice, sideNone},
	{"skb_csum_hwoffload_help", StageDevice, sideTx},
	{"skb_checksum_help", StageDevice, sideNone},
	{"__skb_gso_segment", StageDevice, sideTx},
	{"skb_mac_gso_segment", StageDevice, sideTx},
	{"skb_clone_tx_timestamp", StageDevice, sideTx},
	{"__skb_tstamp_tx", StageDevice, sideTx},
	{"skb_tstamp_tx", StageDevice, sideTx},
	{"dev_forward_skb", StageDevice, sideNone},
	{"__dev_forward_skb", StageDevice, sideNone},
	{"____dev_forward_skb", StageDevice, sideNone},
	{"br_", StageDevice, sideNone},
	{"br_handle_frame", StageDevice, sideRx},
	{"br_pass_frame_up", StageDevice, sideRx},
	{"br_forward", StageDevice, sideNone},
	{"br_flood", StageDevice, sideNone},
	{"br_dev_xmit", StageDevice, sideTx},
	{"br_dev_queue_push_xmit", StageDevice, sideTx},
	{"vlan_", StageDevice, sideNone},
	{"vlan_dev_hard_start_xmit", StageDevice, sideTx},
	{"vlan_do_receive", StageDevice, sideRx},
	{"bond_", StageDevice, sideNone},
	{"bond_handle_frame", StageDevice, sideRx},
	{"bond_start_xmit", StageDevice, sideTx},
	{"macvlan_", StageDevice, sideNone},
	{"macvlan_handle_frame", StageDevice, sideRx},
	{"macvlan_start_xmit", StageDevice, sideTx},
	{"ipvlan_", StageDevice, sideNone},
	{"vxlan_", StageDevice, sideNone},
	{"vxlan_xmit", StageDevice, sideTx},
	{"vxlan_rcv", StageDevice, sideRx},
	{"geneve_", StageDevice, sideNone},
	{"ovs_", StageDevice, sideNone},
	{"wg_", StageDevice, sideNone},

	{"veth_xmit", StageDriver, sideTx},
	{"veth_", StageDriver, sideNone},
	{"loopback_xmit", StageDriver, sideTx},
	{"virtnet_", StageDriver, sideNone},
	{"start_xmit ", StageDriver, sideTx}, // virtio_net
	{"xmit_skb ", StageDriver, sideTx},   // virtio_net
	{"tun_net_xmit", StageDriver, sideTx},
	{"tun_", StageDriver, sideNone},
	{"e1000", StageDriver, sideNone},
	{"igb_", StageDriver, sideNone},
	{"ixgbe_", StageDriver, sideNone},
	{"i40e_", StageDriver, sideNone},
	{"ice_", StageDriver, sideNone},
	{"mlx5", StageDriver, sideNone},
	{"ena_", StageDriver, sideNone},
	{"gve_", StageDriver, sideNone},
	{"bnxt_", StageDriver, sideNone},
	{"rtl8169_", StageDriver, sideNone},

	{"sch_handle_ingress", StageXDPTC, sideRx},
	{"sch_handle_egress", StageXDPTC, sideTx},
	{"tcf_", StageXDPTC, sideNone},
	{"tc_run", StageXDPTC, sideNone},
	{"tcx_run", StageXDPTC, sideNone},
	{"cls_bpf_", StageXDPTC, sideNone},
	{"skb_do_redirect", StageXDPTC, sideNone},
	{"do_xdp_generic", StageXDPTC, sideRx},
	{"netif_receive_generic_xdp", StageXDPTC, sideRx},
	{"bpf_prog_run_generic_xdp", StageXDPTC, sideRx},
	{"generic_xdp_tx", StageXDPTC, sideForward},
	{"bpf_skb_", StageXDPTC, sideNone},
	{"__cgroup_bpf_run_filter_skb", StageXDPTC, sideNone},

	{"netif_rx", StageReceive, sideRx},
	{"__netif_rx", StageReceive, sideRx},
	{"netif_receive_skb", StageReceive, sideRx},
	{"__netif_receive_skb", StageReceive, sideRx},
	{"enqueue_to_backlog", StageReceive, sideRx},
	{"get_rps_cpu", StageReceive, sideRx},
	{"eth_type_trans", StageReceive, sideRx},
	{"napi_gro_", StageReceive, sideRx},
	{"napi_skb_finish", StageReceive, sideRx},
	{"dev_gro_receive", StageReceive, sideRx},
	{"gro_", StageReceive, sideRx},
	{"skb_gro_", StageReceive, sideRx},
	{"gro_cells_receive", StageReceive, sideRx},
	{"deliver_skb", StageReceive, sideNone},
	{"deliver_ptype_list_skb", StageReceive, sideNone},
	{"skb_defer_rx_timestamp", StageReceive, sideRx},
	{"__skb_flow_dissect", StageReceive, sideNone},
}

// driverSuffixes end the transmit functions of drivers that rules do not know.
var driverSuffixes = [...]string{"_start_xmit", "_xmit_frame", "_xmit_frame_ring", "_ndo_start_xmit"}

// classify returns the stage and the side of a function, StageUnknown for one
// that works in any stage.
func classify(f Function) (Stage, side) {
	stage, sd, longest := StageUnknown, sideNone, 0
	for i := range rules {
		r := &rules[i]
		if len(r.prefix) > longest && matches(f.Name, r.prefix) {
			stage, sd, longest = r.stage, r.side, len(r.prefix)
		}
	}
	if longest > 0 {
		return stage, sd
	}
	for _, s := range driverSuffixes {
		if strings.HasSuffix(f.Name, s) {
			return StageDriver, sideTx
		}
	}
	return StageUnknown, sideNone
}

func matches(name, prefix string) bool {
	if exact, ok := strings.CutSuffix(prefix, " "); ok {
		return name == exact
	}
	return strings.HasPrefix(name, prefix)
}

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
		"sk_filter_trim_cap", "pfifo_fast_enqueue", "sock_queue_rcv_skb_reason":
		return ReturnInt32
	case "sch_direct_xmit":
		return ReturnBool
	default:
		return ReturnNone
	}
}
