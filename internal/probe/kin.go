package probe

import "github.com/otel-kprobe/otel-kprobe/bpf"

// kinOf says what a function does with its skb and others.
//
// Clones are of the same packet: the skb is the first argument and the new one
// the return value (or NULL, or an error pointer). Not among them are functions
// that may return their argument, those that leave the work to one of these
// (__skb_gso_segment), and those that make another packet (an answer).
func kinOf(name string) bpf.Kin {
	switch name {
	case "skb_clone", "skb_clone_sk", "skb_copy", "skb_copy_expand", "skb_realloc_headroom",
		"__pskb_copy", "__pskb_copy_fclone", "pskb_extract":
		return bpf.KinClones
	case "skb_segment", "ip_frag_next", "ip6_frag_next":
		return bpf.KinDerives
	case "ip_copy_metadata", "ip6_copy_metadata": // (fragment, whole), whichever way it is cut
		return bpf.KinDerivesFirst
	case "skb_morph": // (whole, first fragment): the last one's skb becomes the whole
		return bpf.KinDerivesFirst
	case "skb_gro_receive": // (held, skb)
		return bpf.KinMergesZero
	case "skb_try_coalesce": // (to, from)
		return bpf.KinMergesTrue
	case "inet_frag_reasm_finish": // (queue, head)
		return bpf.KinGathers
	// GRO has all that goes with a packet. skb_gro_receive_list, which chains one, is
	// no function of its own in Linux 6.1.
	case "inet_gro_complete", "ipv6_gro_complete":
		return bpf.KinChains
	}
	return bpf.KinNone
}

// HasKin says whether a function must be seen to return, since that tells what it did with
// other skbs.
func HasKin(name string) bool { return kinOf(name) != bpf.KinNone }

// kinNote says the same to a user, empty for KinNone.
func kinNote(k bpf.Kin) string {
	switch k {
	case bpf.KinClones:
		return "returns a new skb of the packet"
	case bpf.KinDerives, bpf.KinDerivesFirst:
		return "makes other packets of the packet"
	case bpf.KinMergesZero, bpf.KinMergesTrue:
		return "merges the packet into another"
	case bpf.KinGathers:
		return "merges packets into the packet"
	case bpf.KinChains:
		return "chains packets to the packet"
	}
	return ""
}
