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
	// inlined: the compiler left no such function (not in /proc/kallsyms).
	inlined why = iota + 1
	// untraceable: it is in kallsyms and not in available_filter_functions.
	untraceable
	// uncalled: ftrace, too, saw no call of it for this packet.
	uncalled
	// unprobed: `otel-kprobe functions` lists it as skipped, with the reason.
	unprobed
)

// absence says why a function does not appear on some kernels.
type absence struct {
	why    why
	reason string // for unprobed: the text of `otel-kprobe functions`
}

// oneQueue is why the NIC's queue is not chosen: QEMU's user network has one.
// checkQueues shows both functions on the veth pair, which has two.
var oneQueue = absence{uncalled, "the NIC has one transmit queue"}

// absent lists, for each kernel, the functions of the walk-through that are not
// in the tree. A function that is neither there nor here fails the test; one
// that is here and there, too.
var absent = map[string]map[string]absence{
	"5.10": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
	},
	"6.1": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
		"qdisc_pkt_len_init": {inlined, "into __dev_queue_xmit"},
		"xmit_skb":           {inlined, "into start_xmit"},
	},
	"6.12": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
		"qdisc_pkt_len_init": {inlined, "into __dev_queue_xmit"},
		"xmit_skb":           {inlined, "into start_xmit"},
	},
	"7.3": {
		"netdev_pick_tx": oneQueue, "__get_xps_queue_idx": oneQueue,
	},
}
