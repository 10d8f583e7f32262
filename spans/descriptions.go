package spans

// descriptions says in one line what well-known functions of Linux 5.10 to 7.3 do
// with a packet. Functions that are compiled as NAME.isra.0 and the like are looked
// up by NAME.
func descriptions() map[string]string {
	all := make(map[string]string)
	for _, table := range [...]map[string]string{
		describedSend(), describedDevice(), describedReceive(), describedForward(), describedSkb(),
	} {
		for name, text := range table {
			all[name] = text
		}
	}
	return all
}

// describedSend is the way from the socket to the device layer.
func describedSend() map[string]string {
	return map[string]string{
		"__tcp_transmit_skb": "builds the TCP header of a segment and hands it to IP",
		"tcp_v4_send_check":  "computes the TCP checksum, or leaves it to the device",
		"udp_send_skb":       "builds the UDP header of a datagram and hands it to IP",
		"udp_v6_send_skb":    "builds the UDP header of a datagram and hands it to IPv6",
		"ip_send_skb":        "sends a finished IP packet on",
		"ip6_send_skb":       "sends a finished IPv6 packet on",
		"__ip_queue_xmit":    "finds the route of a connection and builds the IP header",
		"ip_queue_xmit":      "finds the route of a connection and builds the IP header",
		"inet6_csk_xmit":     "finds the route of a connection for IPv6",
		"ip6_xmit":           "builds the IPv6 header",
		"__ip_local_out":     "fills in length and checksum, and runs the netfilter hook OUTPUT",
		"ip_local_out":       "sends what this host made through the netfilter hook OUTPUT",
		"__ip6_local_out":    "fills in the length, and runs the netfilter hook OUTPUT of IPv6",
		"ip6_local_out":      "sends what this host made through the netfilter hook OUTPUT of IPv6",
		"nf_hook_slow":       "asks the functions of one netfilter hook, one after the other",
		"nft_do_chain_inet":  "evaluates the rules of an nftables chain",
		"ipt_do_table":       "evaluates the rules of an iptables table",
		"nf_conntrack_in":    "finds or makes the connection that the packet belongs to",
		"nf_nat_inet_fn":     "translates addresses and ports as the connection says",
		"nf_nat_manip_pkt":   "rewrites addresses and ports in the headers",
		"nf_confirm":         "enters a new connection into the table",
		"ip_output":          "runs the netfilter hook POSTROUTING",
		"ip6_output":         "runs the netfilter hook POSTROUTING of IPv6",
		"ip_mc_output":       "sends a multicast packet, and a copy to this host where it listens",
		"ip_finish_output":   "asks the cgroup's programs, then whether the packet has to be fragmented",
		"__ip_finish_output": "decides between fragments, segments and the packet as it is",
		"ip_finish_output2":  "finds the next hop's neighbour entry",
		"ip6_finish_output":  "asks the cgroup's programs, then whether the packet has to be fragmented",
		"ip6_finish_output2": "finds the next hop's neighbour entry",
		"ip_do_fragment":     "cuts the packet into fragments that fit the path",
		"ip_fragment":        "fragments the packet, or refuses to",
		"ip6_fragment":       "cuts the packet into fragments that fit the path",
		"neigh_resolve_output": "asks for the next hop's link-layer address if it is not known, " +
			"then writes the link-layer header",
		"neigh_connected_output": "writes the link-layer header with the known address of the next hop",
		"__neigh_event_send":     "keeps the packet until the next hop's link-layer address is known",
	}
}

// describedDevice is the way from the device layer to the wire.
func describedDevice() map[string]string {
	return map[string]string{
		"__dev_queue_xmit":         "chooses a queue of the device and gives the packet to its qdisc, or sends it at once",
		"netdev_core_pick_tx":      "chooses the transmit queue",
		"netdev_pick_tx":           "chooses the transmit queue by hash, socket or XPS",
		"dev_qdisc_enqueue":        "puts the packet into the queueing discipline",
		"pfifo_fast_enqueue":       "puts the packet into one of three bands, by priority",
		"fq_codel_enqueue":         "puts the packet into the queue of its flow",
		"fq_enqueue":               "puts the packet into the queue of its flow, to be paced",
		"netem_enqueue":            "applies emulated loss, duplication and corruption, and sets the delay",
		"tbf_enqueue":              "puts the packet into the queue of the token bucket",
		"htb_enqueue":              "finds the packet's class and puts it into that one's queue",
		"sch_direct_xmit":          "sends what the qdisc gave out, with the queue's lock",
		"__dev_direct_xmit":        "sends past the qdisc",
		"validate_xmit_skb_list":   "prepares each packet of a list for what the device can do",
		"validate_xmit_skb":        "prepares the packet for what the device can do: VLAN tag, segments, checksum",
		"netif_skb_features":       "finds out which of the device's features apply to this packet",
		"passthru_features_check":  "lets the driver leave all features on",
		"skb_network_protocol":     "looks for the protocol behind VLAN tags",
		"validate_xmit_xfrm":       "prepares IPsec offload",
		"skb_checksum_help":        "computes the checksum that the device can't",
		"__skb_gso_segment":        "cuts a large packet into segments for a device that can't",
		"tcp_gso_segment":          "makes TCP segments of a large packet",
		"skb_segment":              "copies headers and shares the data among segments",
		"dev_hard_start_xmit":      "shows the packet to taps and calls the driver",
		"dev_queue_xmit_nit":       "gives taps (tcpdump) their copies",
		"loopback_xmit":            "gives the packet back to this host",
		"veth_xmit":                "gives the packet to the other end of the veth pair",
		"br_dev_xmit":              "sends into the bridge",
		"vxlan_xmit":               "looks the peer up and wraps the frame in VXLAN",
		"bond_start_xmit":          "chooses the bond's member that sends",
		"dummy_xmit":               "counts the packet and drops it, as a dummy device does",
		"macvlan_start_xmit":       "sends by the device below, or to a neighbour on it",
		"ipvlan_start_xmit":        "sends by the device below, or to a neighbour on it",
		"tun_net_xmit":             "puts the packet into the queue that a program reads",
		"vlan_dev_hard_start_xmit": "adds the VLAN tag and sends by the device below",
		"wg_xmit":                  "finds WireGuard's peer and queues the packet for encryption",
		"start_xmit":               "puts the packet into the ring that the hypervisor reads (virtio_net)",
		"skb_clone_tx_timestamp":   "keeps a copy for a time stamp by the hardware",
		"skb_tstamp_tx":            "tells the socket when the packet was sent",
		"skb_to_sgvec":             "lists the packet's memory for the device",
		"__skb_to_sgvec":           "lists the packet's memory for the device",
	}
}

// describedReceive is the way from the wire to the socket.
func describedReceive() map[string]string {
	return map[string]string{
		"eth_type_trans":               "reads the Ethernet header and finds the protocol",
		"__dev_forward_skb":            "prepares the packet to be received by another device",
		"napi_gro_receive":             "takes a packet from the driver, and tries to merge it with others",
		"gro_receive_skb":              "takes a packet from the driver, and tries to merge it with others",
		"dev_gro_receive":              "looks for a packet of the same flow to merge with",
		"inet_gro_receive":             "compares IP headers for merging",
		"tcp4_gro_receive":             "compares TCP headers for merging",
		"skb_gro_receive":              "adds the data to the packet that it is merged into",
		"netif_rx":                     "puts the packet into the CPU's backlog",
		"__netif_rx":                   "puts the packet into the CPU's backlog",
		"netif_rx_internal":            "chooses the CPU that receives (RPS)",
		"enqueue_to_backlog":           "puts the packet into a CPU's backlog",
		"skb_defer_rx_timestamp":       "lets the hardware's time stamp come first",
		"netif_receive_skb":            "takes a packet into the receive path",
		"__netif_receive_skb":          "hands the packet to those who receive its protocol",
		"__netif_receive_skb_one_core": "hands the packet to the one protocol that takes it",
		"__netif_receive_skb_core":     "shows the packet to taps, XDP, tc, bridges and bonds, and finds its protocol",
		"ip_rcv":                       "takes an IPv4 packet and runs the netfilter hook PREROUTING",
		"ip_rcv_core":                  "checks the IPv4 header",
		"ip_rcv_finish":                "routes the packet: to this host, or onward",
		"ip_rcv_finish_core":           "takes the route from the socket or looks it up",
		"ip_route_input_noref":         "looks the route of a received packet up",
		"ip_route_input_slow":          "looks the route up in the tables",
		"fib_validate_source":          "checks that the sender can be behind that interface",
		"ip_local_deliver":             "puts fragments together and runs the netfilter hook INPUT",
		"ip_local_deliver_finish":      "removes the IP header",
		"ip_protocol_deliver_rcu":      "calls the protocol above IP",
		"raw_local_deliver":            "gives raw sockets their copies",
		"ip_defrag":                    "keeps fragments until the packet is whole",
		"ipv6_rcv":                     "takes an IPv6 packet and runs the netfilter hook PREROUTING",
		"ip6_rcv_core":                 "checks the IPv6 header",
		"ip6_rcv_finish":               "routes the packet: to this host, or onward",
		"ip6_route_input":              "looks the route of a received packet up",
		"ip6_input":                    "runs the netfilter hook INPUT of IPv6",
		"ip6_protocol_deliver_rcu":     "goes through extension headers and calls the protocol above",
		"icmp_rcv":                     "takes an ICMP message",
		"icmp_echo":                    "answers a ping",
		"icmpv6_rcv":                   "takes an ICMPv6 message",
		"ping_rcv":                     "looks for the ping socket that a reply belongs to",
		"raw_rcv":                      "checks IPsec policy and gives the packet to a raw socket",
		"udp_rcv":                      "takes a UDP datagram",
		"__udp4_lib_rcv":               "finds the socket of a UDP datagram, or answers that there is none",
		"__udp6_lib_rcv":               "finds the socket of a UDP datagram, or answers that there is none",
		"udp_queue_rcv_skb":            "gives the datagram to the socket",
		"udp_queue_rcv_one_skb":        "checks policy, checksum and the socket's filter",
		"__udp_enqueue_schedule_skb":   "charges the socket's memory, queues the datagram and wakes the reader",
		"tcp_v4_rcv":                   "takes a TCP segment and finds its socket",
		"tcp_v6_rcv":                   "takes a TCP segment and finds its socket",
		"tcp_v4_do_rcv":                "handles the segment by the socket's state",
		"tcp_v6_do_rcv":                "handles the segment by the socket's state",
		"tcp_rcv_established":          "handles a segment of an established connection",
		"tcp_rcv_state_process":        "handles a segment of a connection that begins or ends",
		"tcp_add_backlog":              "keeps the segment until the socket's user lets go of it",
		"tcp_data_queue":               "puts data into the socket's queue, in order",
		"tcp_data_queue_ofo":           "keeps data that came before its turn",
		"tcp_queue_rcv":                "puts data at the end of the socket's queue",
		"sk_filter_trim_cap":           "runs the socket's filter",
		"sock_queue_rcv_skb":           "puts the packet into a socket's queue",
		"sock_queue_rcv_skb_reason":    "runs the socket's filter and queues the packet",
		"__sock_queue_rcv_skb":         "charges the socket's memory, queues the packet and wakes the reader",
		"packet_rcv":                   "gives a packet socket (tcpdump) its copy",
		"skb_copy_datagram_iter":       "copies the data to the program that reads",
		"__skb_datagram_iter":          "goes through the packet's pieces for that copy",
		"arp_rcv":                      "takes an ARP packet",
	}
}

// describedForward is the way between two devices.
func describedForward() map[string]string {
	return map[string]string{
		"ip_forward":             "checks policy and TTL, and runs the netfilter hook FORWARD",
		"ip_forward_finish":      "sends the packet on",
		"ip6_forward":            "checks policy and hop limit, and runs the netfilter hook FORWARD",
		"br_handle_frame":        "takes a frame that came to a bridge's port",
		"br_handle_frame_finish": "learns the sender and finds the port of the receiver",
		"br_forward":             "sends the frame to one port",
		"__br_forward":           "runs the bridge's netfilter hook FORWARD",
		"br_dev_queue_push_xmit": "gives the frame to the port's device",
		"br_pass_frame_up":       "gives the frame to this host",
	}
}

// describedSkb is what is done to packets as pieces of memory.
func describedSkb() map[string]string {
	return map[string]string{
		"skb_clone":              "makes a second head of the same data",
		"skb_copy":               "copies head and data",
		"pskb_expand_head":       "makes room for headers by moving the packet",
		"skb_push":               "makes room for a header in front",
		"skb_pull":               "removes a header in front",
		"consume_skb":            "frees the packet: its way ended as it should",
		"napi_consume_skb":       "frees the packet after the device has sent it",
		"__kfree_skb":            "frees the packet",
		"skb_attempt_defer_free": "leaves the freeing to the CPU that allocated the packet",
		"skb_free_datagram":      "frees the packet after it was read",
	}
}
