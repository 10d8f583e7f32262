/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * read.h - reading kernel memory.
 *
 * With DIRECT defined (Linux 6.10+), reads are plain loads through
 * bpf_rdonly_cast (https://docs.kernel.org/bpf/kfuncs.html): the JIT guards
 * them with the exception table, and they cost a few instructions where
 * bpf_probe_read_kernel costs about 170. Without DIRECT the helper is used.
 */
#ifndef OTEL_KPROBE_READ_H
#define OTEL_KPROBE_READ_H

#include "settings.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The members of an sk_buff that every frame looks at. */
struct skb_view {
	u64 head;
	u64 data;
	u64 dev;
	u64 sock;
	u64 nfct; /* connection and enum ip_conntrack_info, 0: none */
	u32 len;
	u32 data_len;
	u32 mark;
	u16 network_header;
	u16 mac_header;
};

#ifdef DIRECT

extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

/*
 * struct ip_options is 16 bytes of members and then a flexible array of bytes:
 * past the size of such a struct the verifier permits loads of any width at
 * any offset (btf_struct_walk in kernel/bpf/btf.c, since 5.5). The ids of both
 * structs are settings and not relocations, so that loading does not need all
 * of the kernel's types. Through void *, since clang loads byte by byte what
 * it cannot know to be aligned.
 */
#define RAW_BYTES 16

#define READ_RAW(type, address)                                                \
	(*(volatile type *)(bpf_rdonly_cast((void *)((address) - RAW_BYTES),   \
					    settings.raw_bytes_id) +           \
			    RAW_BYTES))

static __always_inline u64 read_u64(u64 address)
{
	return READ_RAW(u64, address);
}

static __always_inline u32 read_u32(u64 address)
{
	return READ_RAW(u32, address);
}

static __always_inline u8 read_u8(u64 address)
{
	return READ_RAW(u8, address);
}

#define SKB_OFFSET(member) ((u64)bpf_core_field_offset(struct sk_buff, member))

/*
 * Reads what tells where the packet is. Two members that lie side by side, as
 * they do since long, take one load: each load costs eight instructions, for
 * the JIT checks its address. The verifier drops the branch not taken.
 */
static __always_inline void view_packet(struct skb_view *view, u64 address)
{
	void *skb = bpf_rdonly_cast((void *)(address - RAW_BYTES), settings.raw_bytes_id) + RAW_BYTES;
	u64 both;

	view->head = *(volatile u64 *)(skb + SKB_OFFSET(head));
	view->data = *(volatile u64 *)(skb + SKB_OFFSET(data));
	if (SKB_OFFSET(data_len) == SKB_OFFSET(len) + 4) {
		both = *(volatile u64 *)(skb + SKB_OFFSET(len));
		view->len = both;
		view->data_len = both >> 32;
	} else {
		view->len = *(volatile u32 *)(skb + SKB_OFFSET(len));
		view->data_len = *(volatile u32 *)(skb + SKB_OFFSET(data_len));
	}
	if (SKB_OFFSET(mac_header) == SKB_OFFSET(network_header) + 2) {
		both = *(volatile u32 *)(skb + SKB_OFFSET(network_header));
		view->network_header = both;
		view->mac_header = both >> 16;
	} else {
		view->network_header = *(volatile u16 *)(skb + SKB_OFFSET(network_header));
		view->mac_header = *(volatile u16 *)(skb + SKB_OFFSET(mac_header));
	}
}

/* Reads the rest of the view. */
static __always_inline void view_state(struct skb_view *view, u64 address)
{
	struct sk_buff *skb = bpf_rdonly_cast((void *)address, settings.sk_buff_id);

	view->dev = (u64)skb->dev;
	view->sock = (u64)skb->sk;
	view->mark = skb->mark;
	view->nfct = 0;
	if (bpf_core_field_exists(skb->_nfct))
		view->nfct = skb->_nfct;
}

#else

static __always_inline u64 read_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u8 read_u8(u64 address)
{
	u8 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/* All members that we read lie below this offset; sk_buff is 232 bytes or so. */
#define SKB_COPY_BYTES 232

#define COPIED(copy, type, member)                                             \
	(*(type *)((copy) + bpf_core_field_offset(struct sk_buff, member)))

/* Not on the stack: two functions that call one another need it. */
struct skb_copy {
	u8 bytes[SKB_COPY_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct skb_copy);
} skb_copies SEC(".maps");

/* One copy of the whole struct is cheaper than a helper call a member. */
static __always_inline void view_packet(struct skb_view *view, u64 address)
{
	u32 zero = 0;
	struct skb_copy *copy = bpf_map_lookup_elem(&skb_copies, &zero);

	if (!copy || bpf_probe_read_kernel(copy->bytes, sizeof(copy->bytes), (void *)address)) {
		__builtin_memset(view, 0, sizeof(*view));
		return;
	}
	view->head = COPIED(copy->bytes, u64, head);
	view->data = COPIED(copy->bytes, u64, data);
	view->dev = COPIED(copy->bytes, u64, dev);
	view->sock = COPIED(copy->bytes, u64, sk);
	view->nfct = 0;
	if (bpf_core_field_exists(struct sk_buff, _nfct))
		view->nfct = COPIED(copy->bytes, u64, _nfct);
	view->len = COPIED(copy->bytes, u32, len);
	view->data_len = COPIED(copy->bytes, u32, data_len);
	view->mark = COPIED(copy->bytes, u32, mark);
	view->network_header = COPIED(copy->bytes, u16, network_header);
	view->mac_header = COPIED(copy->bytes, u16, mac_header);
}

static __always_inline void view_state(struct skb_view *view, u64 address)
{
}

#endif

static __always_inline void view_skb(struct skb_view *view, u64 address)
{
	view_packet(view, address);
	view_state(view, address);
}

#endif
