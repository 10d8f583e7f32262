//go:build vm

package scenario

// walkThrough is the path that users start from: what a ping goes through over a
// virtio NIC with a netfilter rule loaded and AppArmor on, in the order of entry.
var walkThrough = []string{
	"ip_options_build",
	"__ip_local_out", "nf_hook_slow", "ip_output", "nf_hook_slow", "apparmor_ip_postroute",
	"ip_finish_output", "__ip_finish_output", "ip_finish_output2",
	"__dev_queue_xmit", "qdisc_pkt_len_init",
	"netdev_core_pick_tx", "netdev_pick_tx", "__get_xps_queue_idx",
	"sch_direct_xmit", "validate_xmit_skb_list", "validate_xmit_skb",
	"netif_skb_features", "passthru_features_check", "skb_network_protocol", "validate_xmit_xfrm",
	"dev_hard_start_xmit", "start_xmit", "skb_clone_tx_timestamp", "xmit_skb", "skb_to_sgvec", "__skb_to_sgvec",
}

// why is a reason for the absence of a function from the tree. Each is verified
// against the running kernel.
type why int

const (
	// missing: the kernel has no such function (not in /proc/kallsyms), because
	// the compiler inlined it, the configuration left it out, or it has another
	// name on this kernel.
	missing why = iota + 1
	// uncalled: ftrace, too, saw no call of it for this packet.
	uncalled
)

// absence says why a function does not appear on some kernels.
type absence struct {
	why    why
	reason string
	// instead is the function that has its place in the tree, "" for none.
	instead string
}

// oneQueue is why the NIC's queue is not chosen: QEMU's user network has one.
// checkQueues shows both functions on the veth pair, which has two.
var oneQueue = absence{why: uncalled, reason: "the NIC has one transmit queue"}

// intoCaller is what the compiler did with small static functions.
func intoCaller(name string) absence {
	return absence{why: missing, reason: "the compiler inlined it into " + name}
}

// absent lists, for each kernel, the functions of the walk-through that are not
// in the tree. A function that is neither there nor here fails the test; one
// that is here and there, too.
var absent = map[string]map[string]absence{
	"5.10": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
		"apparmor_ip_postroute": {missing, "before Linux 6.0 each family has its own", "apparmor_ipv4_postroute"},
		"qdisc_pkt_len_init":    intoCaller("__dev_queue_xmit"),
		"xmit_skb":              intoCaller("start_xmit"),
		"skb_clone_tx_timestamp": {
			why: missing, reason: "Debian's cloud kernel is built without CONFIG_NETWORK_PHY_TIMESTAMPING",
		},
	},
	"6.1": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
		"qdisc_pkt_len_init": intoCaller("__dev_queue_xmit"),
		"xmit_skb":           intoCaller("start_xmit"),
	},
	"6.12": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
		"qdisc_pkt_len_init": intoCaller("__dev_queue_xmit"),
		"xmit_skb":           intoCaller("start_xmit"),
	},
	"7.3": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
		"qdisc_pkt_len_init":      {missing, "it was renamed", "qdisc_pkt_len_segs_init"},
		"passthru_features_check": {why: uncalled, reason: "the driver's own check is not asked on this kernel"},
		"xmit_skb":                intoCaller("start_xmit"),
	},
}
