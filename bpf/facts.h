/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* facts.h - reads the headers of a tracked skb and reports what changed. */
#ifndef OTEL_KPROBE_FACTS_H
#define OTEL_KPROBE_FACTS_H

#include "maps.h"
#include "match.h"
#include "read.h"
#include <bpf/bpf_endian.h>

#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO 8
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129

/* IPv6 extension headers that may stand before the transport header. */
#define IP6_HOP_BY_HOP 0
#define IP6_ROUTING 43
#define IP6_FRAGMENT 44
#define IP6_DESTINATION 60
#define IP6_MAX_EXTENSIONS 4
#define IP6_LATER_FRAGMENT 0xfff8 /* of the fragment header: the offset */
#define IP6_ANY_FRAGMENT 0xfff9   /* … and that more follow */

struct ip4_header {
	u8 version_ihl;
	u8 tos;
	u16 total_length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 checksum;
	u8 source[4];
	u8 destination[4];
};

struct ip6_header {
	u32 version_class_flow;
	u16 payload_length;
	u8 next_header;
	u8 hop_limit;
	u8 source[16];
	u8 destination[16];
};

/* The first 20 bytes of any transport header. */
union transport_header {
	struct {
		u16 source;
		u16 destination;
		u32 seq;
		u32 ack;
		u8 offset;
		u8 flags;
		u16 window;
	} tcp;
	struct {
		u8 type;
		u8 code;
		u16 checksum;
		u16 id;
		u16 seq;
	} icmp;
};

/*
 * A value that changes when addresses or ports do (NAT, tunnels), so that
 * facts are read again; equal tuples give equal values. 0: no IP header.
 */
static __always_inline u64 fingerprint_of(const struct skb_view *view)
{
	u64 ip = network_header_of(view);
	u8 first;

	if (!ip)
		return 0;
	first = read_u8(ip);
	if (first >> 4 == 4)
		return read_u64(ip + 12) * 3 + read_u32(ip + (first & 15) * 4) + 1;
	if (first >> 4 == 6)
		return read_u64(ip + 16) * 3 + read_u64(ip + 32) * 5 + read_u32(ip + 40) + 1;
	return 0;
}

/* ip is where the network header is, at the transport header. */
static __always_inline void read_transport(struct facts_record *facts, u64 ip, u64 at)
{
	union transport_header header;

	if (bpf_probe_read_kernel(&header, sizeof(header), (void *)at))
		return;
	switch (facts->protocol) {
	case PROTOCOL_TCP:
		facts->tcp_seq = bpf_ntohl(header.tcp.seq);
		facts->tcp_ack = bpf_ntohl(header.tcp.ack);
		facts->tcp_flags = header.tcp.flags;
		facts->tcp_words = ((at - ip) >> 2) + (header.tcp.offset >> 4);
		/* fallthrough */
	case PROTOCOL_UDP:
	case PROTOCOL_UDPLITE:
	case PROTOCOL_SCTP:
		facts->source_port = bpf_ntohs(header.tcp.source);
		facts->destination_port = bpf_ntohs(header.tcp.destination);
		facts->flags |= FACTS_PORTS;
		return;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMP6:
		facts->icmp_type = header.icmp.type;
		facts->icmp_code = header.icmp.code;
		facts->flags |= FACTS_ICMP;
		if (facts->protocol == PROTOCOL_ICMP
			    ? header.icmp.type == ICMP_ECHO || header.icmp.type == ICMP_ECHO_REPLY
			    : header.icmp.type == ICMP6_ECHO_REQUEST || header.icmp.type == ICMP6_ECHO_REPLY) {
			facts->icmp_id = bpf_ntohs(header.icmp.id);
			facts->icmp_seq = bpf_ntohs(header.icmp.seq);
		}
	}
}

static __always_inline void read_ip4(struct facts_record *facts, u64 at)
{
	struct ip4_header ip;

	if (bpf_probe_read_kernel(&ip, sizeof(ip), (void *)at))
		return;
	facts->family = 4;
	facts->protocol = ip.protocol;
	__builtin_memcpy(facts->source, ip.source, 4);
	__builtin_memcpy(facts->destination, ip.destination, 4);
	facts->flags |= FACTS_TUPLE;
	if (bpf_ntohs(ip.fragment) & FRAGMENT_OFFSET_MASK)
		return;
	read_transport(facts, at, at + (ip.version_ihl & 15) * 4);
}

/*
 * Skips the extension headers; false when the transport header is not here, or behind
 * a fragment header in which one of the bits of fragment is set.
 */
static __always_inline int skip_extensions(u8 *next, u64 *at, u16 fragment)
{
	int i;

#pragma unroll
	for (i = 0; i < IP6_MAX_EXTENSIONS; i++) {
		u32 words;

		if (*next != IP6_HOP_BY_HOP && *next != IP6_ROUTING &&
		    *next != IP6_FRAGMENT && *next != IP6_DESTINATION)
			return 1;
		words = read_u32(*at);
		if (*next == IP6_FRAGMENT && bpf_ntohs(words >> 16) & fragment)
			return 0;
		*at += *next == IP6_FRAGMENT ? 8 : ((words >> 8 & 0xff) + 1) * 8;
		*next = words & 0xff;
	}
	return 0;
}

static __always_inline void read_ip6(struct facts_record *facts, u64 at)
{
	struct ip6_header ip;
	u64 transport = at + sizeof(ip);

	if (bpf_probe_read_kernel(&ip, sizeof(ip), (void *)at))
		return;
	facts->family = 6;
	__builtin_memcpy(facts->source, ip.source, 16);
	__builtin_memcpy(facts->destination, ip.destination, 16);
	facts->flags |= FACTS_TUPLE;
	if (skip_extensions(&ip.next_header, &transport, IP6_LATER_FRAGMENT)) {
		facts->protocol = ip.next_header;
		read_transport(facts, at, transport);
		return;
	}
	facts->protocol = ip.next_header;
}

static __always_inline void read_device(struct facts_record *facts, u64 skb, u64 dev)
{
	facts->netns = netns_of(skb, dev);
	if (!dev)
		return;
	facts->ifindex = BPF_CORE_READ((struct net_device *)dev, ifindex);
	facts->mtu = BPF_CORE_READ((struct net_device *)dev, mtu);
	bpf_probe_read_kernel(facts->interface, sizeof(facts->interface),
			      (void *)(dev + bpf_core_field_offset(struct net_device, name)));
}

/* Room for facts, and for their randomness if there is one. */
static __always_inline struct facts_record *reserve_facts(struct cpu_state *cpu)
{
	struct facts_record *facts;

	if (settings.sample_threshold)
		facts = bpf_ringbuf_reserve(&ring, sizeof(*facts), 0);
	else
		facts = bpf_ringbuf_reserve(&ring, FACTS_BYTES, 0);
	if (!facts)
		COUNT(cpu->ring_full_facts);
	return facts;
}

static __always_inline void tell_randomness(struct facts_record *facts, u64 randomness)
{
	if (!settings.sample_threshold)
		return;
	facts->flags |= FACTS_SAMPLED;
	facts->randomness = randomness;
}

/* Fills everything but journey, number, randomness and the start flag. */
static __noinline void read_facts(struct facts_record *facts, const struct skb_view *view, u64 skb)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u64 ip = network_header_of(view);
	u8 version = ip ? read_u8(ip) >> 4 : 0;

	__builtin_memset(facts, 0, FACTS_BYTES);
	facts->kind = RECORD_FACTS;
	facts->cpu = bpf_get_smp_processor_id();
	facts->tid = pid_tgid;
	facts->tgid = pid_tgid >> 32;
	facts->skb = skb;
	facts->at_mono_ns = bpf_ktime_get_ns();
	facts->mark = view->mark;
	facts->len = view->len;
	facts->ether_type = bpf_ntohs(BPF_CORE_READ((struct sk_buff *)skb, protocol));
	if (ip) {
		facts->network_offset = ip - view->head;
		facts->network_distance = ip - view->data;
	}
	bpf_get_current_comm(facts->comm, sizeof(facts->comm));
	read_device(facts, skb, view->dev);
	if (version == 4 && facts->ether_type != ETHER_ARP)
		read_ip4(facts, ip);
	else if (version == 6 && facts->ether_type != ETHER_ARP)
		read_ip6(facts, ip);
}

#endif
