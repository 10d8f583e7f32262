/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * tunnel.h - the packet in a tunnel, found in the bytes: what skb->encapsulation
 * says is cleared by drivers and not yet known where a packet arrives.
 */
#ifndef OTEL_KPROBE_TUNNEL_H
#define OTEL_KPROBE_TUNNEL_H

#include "protocols.h"
#include "read.h"
#include <bpf/bpf_endian.h>

#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472
#define PORT_GENEVE 6081
#define UDP_HEADER_BYTES 8
#define VXLAN_HEADER_BYTES 8
#define VXLAN_HAS_ID 0x08 /* first byte of its header */

/* As filter_l2 and filter_l3 (match.h), for what the tunnel carries. */
static __noinline u32 tunnel_l2(u64 data, u32 caplen, u32 wirelen)
{
	volatile u32 result = data + caplen + wirelen != 0;

	return result;
}

static __noinline u32 tunnel_l3(u64 data, u32 caplen, u32 wirelen)
{
	volatile u32 result = data + caplen + wirelen != 0;

	return result;
}

/* Where the carried packet is; 0: nothing is carried. */
struct carried {
	u64 at;
	u32 l2; /* it begins with an Ethernet header */
};

static __always_inline void carried_as(struct carried *inner, u64 at, u16 ether_type)
{
	if (ether_type != ETHER_BRIDGED && ether_type != ETHER_IP4 && ether_type != ETHER_IP6)
		return;
	inner->at = at;
	inner->l2 = ether_type == ETHER_BRIDGED;
}

/* RFC 2890: checksum, key and number are four bytes each where their flag is set. */
static __always_inline void carried_by_gre(struct carried *inner, u64 gre)
{
	u32 head = read_u32(gre);
	u8 flags = head;

	if (flags & 0x40 || head >> 8 & 7) /* routing, or another version */
		return;
	carried_as(inner, gre + 4 + 4 * ((flags >> 7) + (flags >> 5 & 1) + (flags >> 4 & 1)),
		   bpf_ntohs(head >> 16));
}

/* RFC 7348 and 8926. */
static __always_inline void carried_by_udp(struct carried *inner, u64 udp)
{
	u16 port = bpf_ntohs(read_u32(udp) >> 16);
	u64 at = udp + UDP_HEADER_BYTES;
	u32 head = read_u32(at);

	if ((port == PORT_VXLAN || port == PORT_VXLAN_LINUX) && head & VXLAN_HAS_ID)
		carried_as(inner, at + VXLAN_HEADER_BYTES, ETHER_BRIDGED);
	else if (port == PORT_GENEVE && !(head >> 6 & 3))
		carried_as(inner, at + 8 + (head & 0x3f) * 4, bpf_ntohs(head >> 16));
}

static __always_inline void find_carried(struct carried *inner, u64 ip)
{
	u8 first = read_u8(ip), protocol;
	u64 at;

	if (first >> 4 == 4) {
		at = ip + (first & 15) * 4;
		protocol = read_u8(ip + 9);
		if (bpf_ntohs(read_u32(ip + 4) >> 16) & FRAGMENT_OFFSET_MASK) /* a later fragment */
			return;
	} else if (first >> 4 == 6) {
		at = ip + 40;
		protocol = read_u8(ip + 6);
	} else {
		return;
	}
	if (protocol == PROTOCOL_IPIP)
		carried_as(inner, at, ETHER_IP4);
	else if (protocol == PROTOCOL_IP6)
		carried_as(inner, at, ETHER_IP6);
	else if (protocol == PROTOCOL_GRE)
		carried_by_gre(inner, at);
	else if (protocol == PROTOCOL_UDP)
		carried_by_udp(inner, at);
}

#endif
