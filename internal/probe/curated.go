package probe

import "strings"

// curated returns the functions that the kprobe backend watches when the user
// names none: the path that most packets take. Single kprobes are slow to
// attach, as the kernel patches its code for each, so it is short;
// `--filter-func` replaces it. Names of several kernel versions stand side by
// side; those that the running kernel lacks match nothing.
func curated() map[string]bool {
	set := make(map[string]bool)
	for _, name := range strings.Fields(curatedSend + curatedReceive + curatedForward + curatedDevice + curatedEnds) {
		set[name] = true
	}
	return set
}

// From the socket to the queueing discipline.
const curatedSend = `
ip_options_build __tcp_transmit_skb
udp_send_skb udp_v6_send_skb ip_send_skb ip6_send_skb
__ip_queue_xmit ip_queue_xmit inet6_csk_xmit ip6_xmit
__ip_local_out ip_local_out __ip6_local_out ip6_local_out
nf_hook_slow apparmor_ip_postroute apparmor_ipv4_postroute apparmor_ipv6_postroute
ip_output ip6_output
ip_finish_output __ip_finish_output ip_finish_output2
ip6_finish_output ip6_finish_output2
ip_do_fragment ip_fragment ip6_fragment ip_copy_metadata ip6_copy_metadata ip_mc_output
neigh_resolve_output neigh_connected_output
skb_clone skb_copy pskb_expand_head
`

// From the queueing discipline to the driver.
const curatedDevice = `
__dev_queue_xmit qdisc_pkt_len_init qdisc_pkt_len_segs_init
netdev_core_pick_tx netdev_pick_tx __get_xps_queue_idx
dev_qdisc_enqueue pfifo_fast_enqueue fq_codel_enqueue fq_enqueue noqueue_enqueue
netem_enqueue tbf_enqueue htb_enqueue sfq_enqueue cake_enqueue
sch_direct_xmit __dev_direct_xmit
validate_xmit_skb_list validate_xmit_skb netif_skb_features passthru_features_check
skb_network_protocol validate_xmit_xfrm skb_checksum_help
__skb_gso_segment tcp_gso_segment skb_segment
dev_hard_start_xmit loopback_xmit veth_xmit br_dev_xmit vxlan_xmit
bond_start_xmit dummy_xmit macvlan_start_xmit ipvlan_start_xmit tun_net_xmit vlan_dev_hard_start_xmit wg_xmit
geneve_xmit ipip_tunnel_xmit ipgre_xmit sit_tunnel_xmit iptunnel_xmit
start_xmit skb_clone_tx_timestamp skb_tstamp_tx __skb_tstamp_tx xmit_skb skb_to_sgvec __skb_to_sgvec
`

// From the driver to the socket.
const curatedReceive = `
__dev_forward_skb eth_type_trans napi_gro_receive gro_receive_skb dev_gro_receive
skb_gro_receive skb_try_coalesce
inet_gro_complete ipv6_gro_complete gro_normal_one
netif_rx __netif_rx netif_rx_internal enqueue_to_backlog
netif_receive_skb __netif_receive_skb __netif_receive_skb_one_core
__netif_receive_skb_core
ip_rcv ip_rcv_core ip_rcv_finish ip_rcv_finish_core ip_route_input_noref
ip_local_deliver ip_local_deliver_finish ip_protocol_deliver_rcu raw_local_deliver ip_defrag skb_morph inet_frag_reasm_finish
ipv6_rcv ip6_rcv_core ip6_rcv_finish ip6_route_input ip6_input ip6_input_finish ip6_protocol_deliver_rcu
icmp_rcv icmp_echo icmpv6_rcv ping_rcv ping_queue_rcv_skb __ping_queue_rcv_skb raw_rcv
udp_rcv __udp4_lib_rcv udp_queue_rcv_skb udp_queue_rcv_one_skb __udp_enqueue_schedule_skb
udpv6_rcv __udp6_lib_rcv udpv6_queue_rcv_skb udpv6_queue_rcv_one_skb
tcp_v4_rcv tcp_v4_do_rcv tcp_v6_rcv tcp_v6_do_rcv tcp_rcv_established tcp_rcv_state_process
tcp_data_queue tcp_queue_rcv tcp_add_backlog sock_queue_rcv_skb
vxlan_rcv geneve_udp_encap_recv ip_tunnel_rcv wg_receive
skb_copy_datagram_iter skb_consume_udp
`

// Between two devices.
const curatedForward = `
ip_forward ip_forward_finish ip6_forward ip_error
br_handle_frame br_handle_frame_finish br_flood br_multicast_flood br_forward __br_forward br_dev_queue_push_xmit br_pass_frame_up
nf_conntrack_in nf_nat_inet_fn ipt_do_table ip6t_do_table arp_rcv
nft_do_chain_inet nft_do_chain_ipv4 nft_do_chain_ipv6
`

// Where it ends.
const curatedEnds = `
__kfree_skb consume_skb napi_consume_skb skb_attempt_defer_free __dev_kfree_skb_any
`

// unlisted are functions that BTF does not have although they can be probed:
// the generators of BTF before 2023 left out those that the compiler had
// specialised. They are added where BTF lacks them.
func unlisted() []Candidate {
	return []Candidate{{
		Name: "__netif_receive_skb_core", Skbs: []SkbArg{{Register: 0, Indirect: true}},
		Return: Return{Kind: ReturnSigned, Bits: 32}, Assumed: true,
	}}
}

// moduleFunctions stands in for the BTF of modules on kernels that have none
// (before 5.11): functions whose first skb has been in the same register for
// as long as this program supports kernels. Those whose module is not loaded
// are not found in available_filter_functions and left out silently.
func moduleFunctions() []Candidate {
	xmit := Return{Kind: ReturnSigned, Bits: 32} // netdev_tx_t
	verdict := Return{Kind: ReturnUnsigned, Bits: 32}
	none := Return{Kind: ReturnVoid}
	rows := []struct {
		module   string
		function string
		register int
		ret      Return
	}{
		{"veth", "veth_xmit", 0, xmit},
		{"virtio_net", "start_xmit", 0, xmit},
		{"virtio_net", "xmit_skb", 1, xmit},
		{"bridge", "br_dev_xmit", 0, xmit},
		{"bridge", "br_handle_frame_finish", 2, xmit},
		{"bridge", "br_flood", 1, none},
		{"bridge", "br_multicast_flood", 1, none},
		{"bridge", "br_forward", 1, none},
		{"bridge", "__br_forward", 1, none},
		{"bridge", "br_forward_finish", 2, xmit},
		{"bridge", "br_dev_queue_push_xmit", 2, xmit},
		{"bridge", "br_pass_frame_up", 0, xmit},
		{"vxlan", "vxlan_xmit", 0, xmit},
		{"vxlan", "vxlan_rcv", 1, xmit},
		{"geneve", "geneve_xmit", 0, xmit},
		{"geneve", "geneve_udp_encap_recv", 1, xmit},
		{"wireguard", "wg_xmit", 0, xmit},
		{"wireguard", "wg_receive", 1, xmit},
		{"bonding", "bond_start_xmit", 0, xmit},
		{"dummy", "dummy_xmit", 0, xmit},
		{"macvlan", "macvlan_start_xmit", 0, xmit},
		{"ipvlan", "ipvlan_start_xmit", 0, xmit},
		{"tun", "tun_net_xmit", 0, xmit},
		{"8021q", "vlan_dev_hard_start_xmit", 0, xmit},
		{"ip_tunnel", "ip_tunnel_rcv", 1, xmit},
		{"ipip", "ipip_tunnel_xmit", 0, xmit},
		{"ip_gre", "ipgre_xmit", 0, xmit},
		{"sit", "sit_tunnel_xmit", 0, xmit},
		{"nf_conntrack", "nf_conntrack_in", 0, verdict},
		{"nf_conntrack", "nf_conntrack_tcp_packet", 1, xmit},
		{"nf_nat", "nf_nat_inet_fn", 1, verdict},
		{"nf_tables", "nft_do_chain_inet", 1, verdict},
		{"nf_tables", "nft_do_chain_ipv4", 1, verdict},
		{"nf_tables", "nft_do_chain_ipv6", 1, verdict},
		{"ip_tables", "ipt_do_table", 0, verdict},
		{"ip6_tables", "ip6t_do_table", 0, verdict},
		{"nf_nat", "nf_nat_manip_pkt", 0, verdict},
		{"sch_fq_codel", "fq_codel_enqueue", 0, xmit},
		{"sch_fq", "fq_enqueue", 0, xmit},
		{"sch_netem", "netem_enqueue", 0, xmit},
		{"sch_tbf", "tbf_enqueue", 0, xmit},
		{"sch_htb", "htb_enqueue", 0, xmit},
		{"sch_sfq", "sfq_enqueue", 0, xmit},
		{"sch_cake", "cake_enqueue", 0, xmit},
		{"ena", "ena_start_xmit", 0, xmit},
		{"vmxnet3", "vmxnet3_xmit_frame", 0, xmit},
		{"e1000", "e1000_xmit_frame", 0, xmit},
		{"e1000e", "e1000_xmit_frame", 0, xmit},
		{"igb", "igb_xmit_frame", 0, xmit},
		{"ixgbe", "ixgbe_xmit_frame", 0, xmit},
		{"i40e", "i40e_lan_xmit_frame", 0, xmit},
		{"ice", "ice_start_xmit", 0, xmit},
		{"mlx5_core", "mlx5e_xmit", 0, xmit},
		{"xen_netfront", "xennet_start_xmit", 0, xmit},
	}
	var found []Candidate
	for _, r := range rows {
		found = append(found, Candidate{
			Name: r.function, Module: r.module, Skbs: []SkbArg{{Register: r.register}}, Return: r.ret, Assumed: true,
		})
	}
	return found
}
