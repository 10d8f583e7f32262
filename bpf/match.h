/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* match.h - does this skb, with the headers that it has by now, pass the filters? */
#ifndef OTEL_KPROBE_MATCH_H
#define OTEL_KPROBE_MATCH_H

#include "maps.h"
#include "protocols.h"
#include "read.h"
#include "tunnel.h"

/*
 * The pcap filter. User space replaces both bodies (internal/filter.Inject):
 * data is the kernel address of the link header (l2) or network header (l3),
 * caplen the linear bytes from there on, wirelen all bytes from there on.
 * Result: 0 reject, else match. Volatile keeps clang from folding the stubs.
 */
static __noinline u32 filter_l2(u64 data, u32 caplen, u32 wirelen)
{
	volatile u32 result = data + caplen + wirelen != 0;

	return result;
}

static __noinline u32 filter_l3(u64 data, u32 caplen, u32 wirelen)
{
	volatile u32 result = data + caplen + wirelen != 0;

	return result;
}

/* alloc_skb leaves network_header 0 and mac_header ~0 until they are known. */
static __always_inline int has_network_header(const struct skb_view *view)
{
	return (u16)(view->network_header - 1) < 0xfffe;
}

/*
 * Is there an Ethernet header before the network header, or, where that is not
 * known yet, one at all? A mac_header of ~0 lies before no network header.
 */
static __always_inline int has_mac_header(const struct skb_view *view)
{
	if (has_network_header(view))
		return view->network_header >= (u32)view->mac_header + ETHERNET_HEADER_BYTES;
	return (u16)(view->mac_header - 1) < 0xfffe;
}

/*
 * The address of the network header; 0 when there is none. Before the kernel
 * has set network_header on receive, it is what follows the Ethernet header.
 */
static __always_inline u64 network_header_of(const struct skb_view *view)
{
	if (has_network_header(view))
		return view->head + view->network_header;
	if (has_mac_header(view))
		return view->head + view->mac_header + ETHERNET_HEADER_BYTES;
	return 0;
}

/* The namespace of the device, else of the socket; 0 when there is neither. */
static __always_inline u32 netns_of(u64 skb, u64 dev)
{
	struct sock *sk;

	if (dev)
		return BPF_CORE_READ((struct net_device *)dev, nd_net.net, ns.inum);
	sk = BPF_CORE_READ((struct sk_buff *)skb, sk);
	if (!sk)
		return 0;
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline int matches_interface(u64 dev)
{
	u64 name[2] = {};
	const volatile u64 *wanted = (const volatile u64 *)settings.interface;

	if (!dev)
		return 0;
	bpf_probe_read_kernel(name, sizeof(name),
			      (void *)(dev + bpf_core_field_offset(struct net_device, name)));
	return name[0] == wanted[0] && name[1] == wanted[1];
}

/* Bytes from address on, clamped so that a header outside the skb gives none. */
static __always_inline u32 bytes_from(u64 address, u64 data, u32 len)
{
	u64 left = data - address + len;

	return left > 0x7fffffff ? 0 : left;
}

/*
 * An skb without any header yet is no packet to us: it matches when the first
 * function sees it with one. The link-layer program decides where a link
 * header is there, for only it understands ether, vlan and the like.
 */
static __always_inline int matches_pcap(const struct skb_view *view)
{
	u32 linear = view->len - view->data_len;
	u64 start;

	if (has_mac_header(view)) {
		start = view->head + view->mac_header;
		return filter_l2(start, bytes_from(start, view->data, linear),
				 bytes_from(start, view->data, view->len));
	}
	if (has_network_header(view)) {
		start = view->head + view->network_header;
		return filter_l3(start, bytes_from(start, view->data, linear),
				 bytes_from(start, view->data, view->len));
	}
	return 0;
}

/* Is the packet in a tunnel, and is what the tunnel carries wanted? */
static __noinline int matches_tunnel(const struct skb_view *view)
{
	u64 ip = network_header_of(view);
	struct carried inner = {};
	u32 caplen, wirelen;

	if (ip)
		find_carried(&inner, ip);
	if (!inner.at)
		return 0;
	caplen = bytes_from(inner.at, view->data, view->len - view->data_len);
	wirelen = bytes_from(inner.at, view->data, view->len);
	return inner.l2 ? tunnel_l2(inner.at, caplen, wirelen) : tunnel_l3(inner.at, caplen, wirelen);
}

static __always_inline int matches(u64 skb)
{
	struct skb_view view;

	view_packet(&view, skb);
	if (!matches_pcap(&view))
		return 0;
	if (settings.has_tunnel && !matches_tunnel(&view))
		return 0;
	view_state(&view, skb);
	if (settings.mark_mask && (view.mark & settings.mark_mask) != settings.mark)
		return 0;
	if (settings.has_interface && !matches_interface(view.dev))
		return 0;
	if (settings.netns && netns_of(skb, view.dev) != settings.netns)
		return 0;
	return 1;
}

#endif
