package spans

import "strings"

// result says what the number means that a function returns.
type result uint8

const (
	resultNone    result = iota
	resultHooks          // nf_hook_slow: 1 to go on, 0, or a negative errno
	resultHook           // verdict of one netfilter hook: enum nf_inet verdicts in the lowest byte
	resultXmit           // NET_XMIT_…, flags of a queueing discipline, or a negative errno
	resultDriver         // netdev_tx_t, where virtual devices hand NET_XMIT_… on
	resultReceive        // NET_RX_…, or a negative errno
	resultErrno          // 0 or a negative errno
	resultTC             // TC_ACT_…, or the kernel's own TC_ACT_CONSUMED
)

// The numbers are those of include/uapi/linux/netfilter.h and
// include/uapi/linux/pkt_cls.h, include/net/pkt_cls.h and
// include/linux/netdevice.h, the same since before Linux 5.10.
const (
	verdictMask  = 0xff
	hookStolen   = 2
	hookQueue    = 3
	hooksAccept  = 1
	tcStolen     = 4
	tcQueued     = 5
	tcTrap       = 8
	tcConsumed   = 9
	xmitMask     = 0x0f
	xmitStolen   = 0x10000 // __NET_XMIT_STOLEN: the qdisc freed it for no fault of the packet
	xmitBypass   = 0x20000 // __NET_XMIT_BYPASS: a filter of the qdisc dropped it
	driverTxBusy = 0x10
)

// resultOf says how to read what a function of Linux 5.10 to 7.3 returns.
// Functions that changed what they return in between are not in it.
func resultOf(name string, stage Stage) result {
	switch name {
	case "nf_hook_slow":
		return resultHooks
	case "ipt_do_table", "ip6t_do_table", "arpt_do_table", "nf_conntrack_in",
		"ipv4_conntrack_in", "ipv4_conntrack_local", "ipv6_conntrack_in", "ipv6_conntrack_local",
		"ipv4_conntrack_defrag", "ipv6_defrag", "ipv4_confirm", "ipv6_confirm", "nf_confirm",
		"nf_nat_inet_fn", "nf_nat_manip_pkt", "nf_nat_packet",
		"nf_nat_ipv4_fn", "nf_nat_ipv4_pre_routing", "nf_nat_ipv4_out", "nf_nat_ipv4_local_fn", "nf_nat_ipv4_local_in",
		"nf_nat_ipv6_fn", "nf_nat_ipv6_in", "nf_nat_ipv6_out", "nf_nat_ipv6_local_fn",
		"br_nf_pre_routing", "br_nf_forward_ip", "br_nf_post_routing", "nf_flow_offload_ip_hook", "nf_flow_offload_inet_hook",
		"apparmor_ip_postroute", "apparmor_ipv4_postroute", "apparmor_ipv6_postroute",
		"selinux_ip_forward", "selinux_ip_output", "selinux_ip_postroute":
		return resultHook
	case "__dev_queue_xmit", "dev_queue_xmit", "__dev_direct_xmit", "dev_qdisc_enqueue",
		"neigh_resolve_output", "neigh_connected_output", "neigh_direct_output",
		"ip_output", "ip_mc_output", "ip_finish_output", "__ip_finish_output", "ip_finish_output2",
		"ip6_output", "ip6_finish_output", "ip6_finish_output2", "ip_local_out", "ip6_local_out":
		return resultXmit
	case "dev_hard_start_xmit":
		return resultDriver
	case "netif_rx", "__netif_rx", "netif_rx_internal", "enqueue_to_backlog",
		"netif_receive_skb", "__netif_receive_skb", "__netif_receive_skb_one_core", "__netif_receive_skb_core",
		"ip_rcv", "ip_rcv_finish", "ipv6_rcv", "ip_local_deliver", "ip_local_deliver_finish", "arp_rcv":
		return resultReceive
	case "__sock_queue_rcv_skb", "sock_queue_rcv_skb", "__udp_enqueue_schedule_skb",
		"udp_send_skb", "udp_v6_send_skb", "ip_send_skb", "ip6_send_skb", "ip6_xmit",
		"ip_queue_xmit", "__ip_queue_xmit", "__tcp_transmit_skb":
		return resultErrno
	case "tcf_classify", "tcf_action_exec":
		return resultTC
	}
	switch {
	case strings.HasPrefix(name, "nft_do_chain_"):
		return resultHook
	case stage == StageQdisc && strings.HasSuffix(name, "_enqueue"):
		return resultXmit
	case stage == StageDriver && strings.HasSuffix(name, "_xmit"):
		return resultDriver
	}
	return resultNone
}

// text names a value that a function returned, "" when it has no name.
func (r result) text(v int64) string {
	if v < 0 && r != resultNone && r != resultHook && r != resultTC {
		if r == resultHooks { // the errno is what the sender hears
			return "NF_DROP"
		}
		return errnoName(-v)
	}
	switch r {
	case resultHooks:
		return nameAt(v, "NF_STOLEN or NF_QUEUE", "NF_ACCEPT")
	case resultHook:
		return nameAt(v&verdictMask, "NF_DROP", "NF_ACCEPT", "NF_STOLEN", "NF_QUEUE", "NF_REPEAT", "NF_STOP")
	case resultXmit:
		return xmitName(v)
	case resultDriver:
		switch v {
		case 0:
			return "NETDEV_TX_OK"
		case driverTxBusy:
			return "NETDEV_TX_BUSY"
		}
		return xmitName(v)
	case resultReceive:
		return nameAt(v, "NET_RX_SUCCESS", "NET_RX_DROP")
	case resultTC:
		if v == tcConsumed {
			return "TC_ACT_CONSUMED"
		}
		return tcAction(int32(v))
	default:
		return ""
	}
}

// xmitName names what a queueing discipline, or what hands to one, returned.
func xmitName(v int64) string {
	if v&^(xmitMask|xmitStolen|xmitBypass) != 0 {
		return ""
	}
	name := nameAt(v&xmitMask, "NET_XMIT_SUCCESS", "NET_XMIT_DROP", "NET_XMIT_CN")
	switch {
	case name == "":
		return ""
	case v&xmitStolen != 0:
		name += "|__NET_XMIT_STOLEN"
	case v&xmitBypass != 0:
		name += "|__NET_XMIT_BYPASS"
	}
	return name
}

// nameAt is the name of a small number, "" beyond the list.
func nameAt(v int64, names ...string) string {
	if v < 0 || v >= int64(len(names)) {
		return ""
	}
	return names[v]
}

// errnoName names the errors with which the kernel refuses a packet, "" for the
// others. The numbers are those of x86 and arm64, whatever machine replays.
func errnoName(errno int64) string {
	switch errno {
	case 1:
		return "EPERM"
	case 2:
		return "ENOENT"
	case 11:
		return "EAGAIN"
	case 12:
		return "ENOMEM"
	case 13:
		return "EACCES"
	case 16:
		return "EBUSY"
	case 18:
		return "EXDEV"
	case 19:
		return "ENODEV"
	case 22:
		return "EINVAL"
	case 28:
		return "ENOSPC"
	case 90:
		return "EMSGSIZE"
	case 97:
		return "EAFNOSUPPORT"
	case 100:
		return "ENETDOWN"
	case 101:
		return "ENETUNREACH"
	case 104:
		return "ECONNRESET"
	case 105:
		return "ENOBUFS"
	case 111:
		return "ECONNREFUSED"
	case 113:
		return "EHOSTUNREACH"
	case 121:
		return "EREMOTEIO"
	}
	return ""
}
