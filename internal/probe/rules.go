package probe

import "regexp"

// rule says of all functions whose whole name matches that the reason holds.
type rule struct {
	re     *regexp.Regexp
	reason string
}

type ruleSet []rule

// reason returns that of the first matching rule, empty when there is none.
func (s ruleSet) reason(name string) string {
	for _, r := range s {
		if r.re.MatchString(name) {
			return r.reason
		}
	}
	return ""
}

func compileRules(rows [][2]string) ruleSet {
	var s ruleSet
	for _, row := range rows {
		s = append(s, rule{regexp.MustCompile("^(?:" + row[0] + ")$"), row[1]})
	}
	return s
}

// noStartRules name the functions on which no journey begins: what they are
// given is no packet yet, or no longer. A journey that began there would carry
// another packet's addresses or nothing but its own end. Frames on skbs that
// are followed already are reported from them as from all others.
func noStartRules() ruleSet {
	const (
		frees      = "frees the skb"
		dying      = "runs on an skb that is being freed"
		destructor = "destructor of an skb"
		unborn     = "builds the skb: its memory holds what was there before"
		copying    = "copies into an skb that is not complete"
		headless   = "runs before the packet's headers are written: their place holds another packet's"
	)
	return compileRules([][2]string{
		{`(__|__napi_|sk_)?kfree_skb(_reason|_list|_list_reason|_partial|mem)?`, frees},
		{`__kfree_skb_(reason|defer)|kfree_skb_(add_bulk|napi_cache)|sk_skb_reason_drop`, frees},
		{`consume_skb|napi_consume_skb|__consume_stateless_skb|skb_consume_udp`, frees},
		{`(__)?dev_k?free_skb_(any|irq)(_reason)?|(__)?dev_(kfree|consume)_skb_(any|irq)(_reason)?`, frees},
		{`napi_skb_(cache_put|free_stolen_head)|skb_attempt_defer_free|napi_reuse_skb`, frees},
		{`rtnl_kfree_skbs|(__)?skb_free_datagram(_locked)?|__sk_queue_drop_skb|skb_kill_datagram`, frees},
		{`skb_release_(all|data|head_state)|skb_free_(head|frags)|skb_pp_recycle`, dying},
		{`(__)?skb_ext_(put|del)|skb_zcopy_clear|skb_dst_drop`, dying},
		{`(net_dm_packet_)?trace_(kfree|consume)_skb_hit`, dying},
		{`(__)?[a-z0-9]+_[weropf]free|sock_edemux|sock_rmem_free`, destructor},
		{`[a-z0-9_]+_(skb_destructor|destruct_skb|skb_destruct|destruct_scm)|unix_sock_destructor`, destructor},
		{`(__)?build_skb_around|__finalize_skb_around|__xdp_build_skb_from_frame`, unborn},
		{`udp_send_skb|udp_v6_send_skb`, headless},
		{`[a-z0-9_]*getfrag|(icmp|ip_reply)_glue_bits`, headless},
		{`__copy_skb_header|skb_copy_header|__skb_clone|skb_headers_offset_update`, copying},
	})
}

// excludedRules name the functions that are never probed although they could
// be. Each costs the user a function he may have asked for, so the reason must
// be one that he would accept.
func excludedRules() ruleSet {
	const tracing = "part of tracing itself: would run on behalf of our own probes"
	// A return probe replaces the return address on the stack, which is what
	// these functions give the tracepoint skb:kfree_skb as the drop's location.
	const dropping = "reported by the tracepoint skb:kfree_skb, whose location a probe of its return would hide"
	return compileRules([][2]string{
		{`kfree_skb(_reason|_list|_list_reason)?|__kfree_skb_reason|sk_skb_reason_drop`, dropping},
		{`__(traceiter|probestub|bpf_trace)_.*|(perf_trace|trace_event_raw_event|trace_raw_output)_.*`, tracing},
	})
}

// arriving says which of several skb parameters is the packet that arrives in
// the function, as an index into Candidate.Skbs. By default it is the first:
// the others are lists to free into (enqueue), the answer that is being built,
// or the rest of a split.
func arriving(name string) int {
	switch name {
	case
		// (new, old): the old one has the packet.
		"__copy_skb_header", "skb_copy_header", "__skb_clone", "skb_morph",
		"ip_copy_metadata", "ip6_copy_metadata", "br_ip6_copy_metadata",
		"skb_zerocopy", "skb_zerocopy_clone",
		// (to, from): from is looked at to be merged into to.
		"skb_try_coalesce", "tcp_try_coalesce", "tcp_ooo_try_coalesce", "mptcp_try_coalesce", "__mptcp_try_coalesce",
		"skb_shift", "tcp_skb_shift", "tcp_shifted_skb", "tcp_skb_can_collapse",
		// (head, skb): skb comes to join those held.
		"skb_gro_receive", "skb_gro_receive_list", "skb_append",
		// (answer, skb): the answer is not sent yet.
		"nf_ct_attach", "nf_conntrack_attach", "nf_reject_ip_tcphdr_put", "nf_reject_ip6_tcphdr_put",
		"nf_reject_iphdr_put", "nf_reject_ip6hdr_put",
		// (sent, acknowledging)
		"tcp_ack_tstamp":
		return 1
	}
	return 0
}

// outParameter says that the function's only struct sk_buff ** is where it
// returns an skb: at entry there is none.
func outParameter(name string) bool {
	switch name {
	case "__skb_try_recv_datagram", "__skb_try_recv_from_queue", "__skb_recv_datagram",
		"prepare_reply":
		return true
	}
	return false
}

// givesData says that the thread which calls the function gets the packet's data from
// it, or has just got them: the copy of a UDP datagram without fragments is inlined
// into udp_recvmsg, and skb_consume_udp follows it.
func givesData(name string) bool {
	switch name {
	case "skb_copy_datagram_iter", "skb_copy_and_csum_datagram_msg", "skb_copy_and_hash_datagram_iter",
		"skb_consume_udp":
		return true
	}
	return false
}
