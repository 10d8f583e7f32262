/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * sample.h - which packets --sample keeps.
 *
 * A packet has the randomness of its flow: 56 bits of a hash that both directions
 * share, and that is the same on all hosts and in all runs, so that a connection is
 * kept or left out as a whole, wherever it is seen. It is kept when they are no less
 * than the threshold, as OpenTelemetry's samplers decide
 * (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
 *
 * Addresses change on the way (NAT, tunnels), so a packet is asked for them once:
 * one that is left out is remembered until its end, as one that is kept is tracked.
 */
#ifndef OTEL_KPROBE_SAMPLE_H
#define OTEL_KPROBE_SAMPLE_H

#include "facts.h"
#include "maps.h"
#include "match.h"
#include "mix.h"
#include "protocols.h"
#include "read.h"
#include <bpf/bpf_endian.h>

/* Of the IPv4 header: more fragments follow, or it is not the first one. */
#define ANY_FRAGMENT_MASK 0x3fff
#define LINK_ADDRESS_MASK 0xffffffffffffULL
#define TRANSPORT_BYTES 8 /* in which the ports, or the id of an echo, are */

#define UNSAMPLED_BITS 14
/* One whose end was missed may be another packet by now. */
#define UNSAMPLED_STALE_NS 10000000000ULL

/* A packet that was left out; one at another address may take its place. */
struct unsampled_skb {
	u64 skb; /* 0: none */
	u64 at_mono_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << UNSAMPLED_BITS); /* user space makes it 1 without --sample */
	__type(key, u32);
	__type(value, struct unsampled_skb);
} unsampled_skbs SEC(".maps");

static __always_inline struct unsampled_skb *unsampled_place(u64 skb)
{
	u32 at = skb * GOLDEN >> (64 - UNSAMPLED_BITS);

	return bpf_map_lookup_elem(&unsampled_skbs, &at);
}

/* Was this skb left out by an earlier function? */
static __always_inline int is_unsampled(u64 skb)
{
	struct unsampled_skb *place;

	if (!settings.sample_threshold)
		return 0;
	place = unsampled_place(skb);
	return place && place->skb == skb && bpf_ktime_get_ns() - place->at_mono_ns < UNSAMPLED_STALE_NS;
}

/* The skb ends: its address may be that of another packet soon. */
static __always_inline void forget_unsampled(u64 skb)
{
	struct unsampled_skb *place;

	if (!settings.sample_threshold)
		return;
	place = unsampled_place(skb);
	if (place && place->skb == skb)
		place->skb = 0;
}

/* Leaves a packet out, unless nothing can be said of it yet. */
static __always_inline void leave_unsampled(struct cpu_state *cpu, u64 skb, u64 randomness)
{
	struct unsampled_skb *place = randomness ? unsampled_place(skb) : 0;

	if (!place)
		return;
	place->at_mono_ns = bpf_ktime_get_ns();
	place->skb = skb;
	COUNT(cpu->unsampled);
}

/* One end of a flow; the upper 64 bits of an IPv4 address are 0. */
static __always_inline u64 hash_end(u64 high, u64 low, u16 port)
{
	return mix(mix(high + port * GOLDEN) ^ low);
}

/* The sum of both ends is the same in both directions. */
static __always_inline u64 hash_flow(u64 one, u64 other, u8 protocol)
{
	u64 randomness = mix(one + other + protocol * GOLDEN) >> RANDOMNESS_SHIFT;

	return randomness ? randomness : 1;
}

/*
 * The ports at a transport header, the source's in the lower half; the id of an echo
 * in both. 0: it has none, or is too short for them.
 */
static __always_inline u32 ports_at(u64 at, u8 protocol)
{
	u32 first;

	switch (protocol) {
	case PROTOCOL_TCP:
	case PROTOCOL_UDP:
	case PROTOCOL_UDPLITE:
	case PROTOCOL_SCTP:
		return read_u32(at);
	case PROTOCOL_ICMP:
		first = read_u8(at);
		if (first != ICMP_ECHO && first != ICMP_ECHO_REPLY)
			return 0;
		return (read_u32(at + 4) & 0xffff) * 0x10001;
	case PROTOCOL_ICMP6:
		first = read_u8(at);
		if (first != ICMP6_ECHO_REQUEST && first != ICMP6_ECHO_REPLY)
			return 0;
		return (read_u32(at + 4) & 0xffff) * 0x10001;
	}
	return 0;
}

/* The IP version at a network header; 0: it is none, or cut short. Negative: it is not here yet. */
static __always_inline int version_at(u64 ip, u64 linear, u64 end)
{
	u64 behind = ip + sizeof(struct ip4_header);
	u8 version;

	if (!ip || behind > end)
		return 0;
	if (behind > linear)
		return -1;
	version = read_u8(ip) >> 4;
	behind = ip + sizeof(struct ip6_header);
	if (version == 6 && behind > linear)
		return behind > end ? 0 : -1;
	return version;
}

static __always_inline u64 link_randomness(u64 link, u64 linear)
{
	if (!link || link + ETHERNET_HEADER_BYTES > linear)
		return 0;
	return hash_flow(hash_end(0, read_u64(link) & LINK_ADDRESS_MASK, 0),
			 hash_end(0, read_u64(link + 6) & LINK_ADDRESS_MASK, 0), 0);
}

/*
 * The randomness of a packet whose network header is at ip, of which the bytes up to
 * linear are here and the last one is before end; link is its Ethernet header, 0:
 * none. 0: nothing can be said of it yet. Each fragment has that of addresses and
 * protocol, for only the first has ports; without an IP header it is that of the link
 * addresses. Verified once, as functions in app_events.h are.
 */
__noinline u64 flow_randomness(u64 ip, u64 linear, u64 end, u64 link)
{
	u64 at, source_high = 0, destination_high = 0, source, destination;
	int version, whole;
	u32 ports = 0;
	u8 protocol;

	if (!settings.sample_threshold) /* before Linux 6.8 it is verified even if nothing calls it */
		return 0;
	version = version_at(ip, linear, end);
	if (version < 0)
		return 0;
	if (version == 4) {
		at = ip + (read_u8(ip) & 15) * 4;
		protocol = read_u8(ip + 9);
		source = read_u32(ip + 12);
		destination = read_u32(ip + 16);
		whole = !(bpf_ntohs(read_u32(ip + 4) >> 16) & ANY_FRAGMENT_MASK);
	} else if (version == 6) {
		at = ip + sizeof(struct ip6_header);
		protocol = read_u8(ip + 6);
		source_high = read_u64(ip + 8);
		source = read_u64(ip + 16);
		destination_high = read_u64(ip + 24);
		destination = read_u64(ip + 32);
		whole = skip_extensions(&protocol, &at, IP6_ANY_FRAGMENT);
	} else {
		return link_randomness(link, linear);
	}
	if (whole && at + TRANSPORT_BYTES <= end) {
		if (at + TRANSPORT_BYTES > linear)
			return 0;
		ports = ports_at(at, protocol);
	}
	return hash_flow(hash_end(source_high, source, bpf_ntohs(ports)),
			 hash_end(destination_high, destination, bpf_ntohs(ports >> 16)), protocol);
}

/* The randomness of a packet; 0: nothing can be said of it yet. */
static __noinline u64 randomness_of(const struct skb_view *view)
{
	u64 ip = network_header_of(view), link = 0;

	if (has_mac_header(view))
		link = view->head + view->mac_header;
	if (!has_network_header(view) && link && bpf_ntohs(read_u32(link + 12)) == ETHER_VLAN)
		ip += VLAN_HEADER_BYTES;
	return flow_randomness(ip, view->data + view->len - view->data_len, view->data + view->len, link);
}

#endif
