/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * payloads.h - the first bytes of what a followed TCP packet carries, when they look
 * like a request that may name the span it was made in. User space reads them
 * (internal/correlate), and lets none of them leave the machine.
 *
 * They are taken from the packet and not from the system call that wrote them: so they
 * are known of packets that are received or forwarded, too, and cost nothing where no
 * packet is followed.
 */
#ifndef OTEL_KPROBE_PAYLOADS_H
#define OTEL_KPROBE_PAYLOADS_H

#include "app_events.h"

#define MAX_OPEN_HEADS 1024
#define MORE_PACKETS 4 /* that are told of a head which broke off */
#define PAGE_SHIFT_BITS 12

/*
 * The option with which eBPF instrumentation passes a span on has 26 bytes or more
 * (internal/correlate says where it comes from). Hardly another packet with data has so
 * many bytes of options: user space looks at those that have.
 */
#define LEAST_OPTION_BYTES 26

#define CRLFCRLF 0x0a0d0a0d

/* A request head that broke off, by the fingerprint of its connection's direction. */
struct open_head {
	u32 seq; /* where it goes on */
	u32 left; /* packets that may still be told */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_OPEN_HEADS);
	__type(key, u64);
	__type(value, struct open_head);
} open_heads SEC(".maps");

/*
 * Where a record is made. The second half is never sent: a copy of at most as many
 * bytes as data has may begin anywhere in it without the verifier having to know the
 * sum.
 */
struct payload_room {
	struct payload_record record;
	u8 beyond[PAYLOAD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct payload_room);
} payload_rooms SEC(".maps");

static __always_inline struct payload_room *payload_room(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&payload_rooms, &zero);
}

/*
 * As in app_events.h, the functions that are not static are verified once, and not
 * again on each path to a call.
 */

/*
 * Where the first fragment of an skb begins, 0: it has none that can be read. The kernel
 * has an array of struct page, and a map of all memory
 * (https://docs.kernel.org/arch/x86/x86_64/mm.html).
 */
static __always_inline u64 first_fragment(const struct skb_view *view, u64 skb, u32 *bytes)
{
	u64 shared = view->head + BPF_CORE_READ((struct sk_buff *)skb, end);
	u64 frag = shared + bpf_core_field_offset(struct skb_shared_info, frags);
	u64 page = read_u64(frag), size = bpf_core_type_size(struct page);

	if (!settings.page_offset_base_at || !settings.vmemmap_base_at || !size || page & 1 ||
	    !read_u8(shared + bpf_core_field_offset(struct skb_shared_info, nr_frags)))
		return 0;
	*bytes = read_u32(frag + 8);
	page = (page - read_u64(settings.vmemmap_base_at)) / size;
	return read_u64(settings.page_offset_base_at) + (page << PAGE_SHIFT_BITS) + read_u32(frag + 12);
}

/* How many of the bytes from begin on lie in the skb's linear part. */
static __always_inline u64 linear_bytes(const struct skb_view *view, u64 begin)
{
	s64 bytes = view->data + (view->len - view->data_len) - begin;

	return bytes < 0 ? 0 : bytes > PAYLOAD_BYTES ? PAYLOAD_BYTES : bytes;
}

/* Copies what is at begin, and goes on in the first fragment, to the record. */
__noinline int copy_payload(u64 skb, u64 begin)
{
	struct payload_room *room = payload_room();
	u64 linear, more = 0, at;
	struct skb_view view;
	u32 bytes = 0;

	if (!room)
		return 0;
	view_skb(&view, skb);
	linear = linear_bytes(&view, begin);
	AS_IT_IS(linear);
	if (linear > PAYLOAD_BYTES || bpf_probe_read_kernel(room->record.data, linear, (void *)begin))
		return 0;
	at = view.data_len ? first_fragment(&view, skb, &bytes) : 0;
	more = bytes > PAYLOAD_BYTES ? PAYLOAD_BYTES : bytes;
	AS_IT_IS(more);
	if (!at || more > PAYLOAD_BYTES || bpf_probe_read_kernel(room->record.data + linear, more, (void *)at))
		more = 0;
	more += linear;
	if (more > room->record.length)
		more = room->record.length;
	room->record.data_bytes = more > PAYLOAD_BYTES ? PAYLOAD_BYTES : more;
	return 0;
}

/* Do the first bytes look like those of an HTTP/1 request, or of a query in SQL? */
__noinline int looks_like_request(u64 first)
{
	switch (bpf_ntohl((u32)first)) {
	case 0x47455420: /* "GET " */
	case 0x504f5354: /* "POST" */
	case 0x50555420: /* "PUT " */
	case 0x48454144: /* "HEAD" */
	case 0x50415443: /* "PATC" */
	case 0x44454c45: /* "DELE" */
	case 0x4f505449: /* "OPTI" */
	case 0x434f4e4e: /* "CONN" */
	case 0x54524143: /* "TRAC" */
	case 0x50524920: /* "PRI ": HTTP/2 */
		return 1;
	}
	/* PostgreSQL: Query or Parse, and a length below 16 MiB. */
	if ((first & 0xffff) == 'Q' || (first & 0xffff) == 'P')
		return 1;
	/* MySQL: the first packet of a command, COM_QUERY. */
	return (first >> 24 & 0xffff) == 0x0300;
}

/* Remembers where a head goes on that has no end in this packet, if it is one of HTTP. */
__noinline int follow_head(u64 flow, u32 left)
{
	struct payload_room *room = payload_room();
	struct open_head open = {.left = left};
	u32 last;

	if (!room)
		return 0;
	open.seq = room->record.seq + room->record.length;
	last = room->record.data_bytes - sizeof(u32);
	if (!left || room->record.length > room->record.data_bytes || !room->record.data[1] ||
	    (last <= PAYLOAD_BYTES - sizeof(u32) && *(u32 *)(room->record.data + last) == CRLFCRLF))
		bpf_map_delete_elem(&open_heads, &flow);
	else
		bpf_map_update_elem(&open_heads, &flow, &open, BPF_ANY);
	return 0;
}

/*
 * Fills in what the headers say, from the network header at ip on. Gives how far from
 * there the packet's data begin, 0: it carries nothing of TCP.
 */
__noinline int head_payload(u64 ip, u64 behind)
{
	struct payload_room *room = payload_room();
	union transport_header header = {};
	u32 is_ip4 = read_u8(ip) >> 4 == 4;
	u32 distance = is_ip4 ? (read_u8(ip) & 15) * 4 : sizeof(struct ip6_header);
	struct payload_record *record;
	u64 at = ip + distance;

	/* Few send extension headers before TCP. */
	if (!room || read_u8(ip + (is_ip4 ? 9 : 6)) != PROTOCOL_TCP)
		return 0;
	record = &room->record;
	bpf_probe_read_kernel(&header, sizeof(header), (void *)at);
	distance += (header.tcp.offset >> 4) * 4;
	record->length = behind - (ip + distance);
	record->option_bytes = (header.tcp.offset >> 4) * 4 - 20;
	if ((s32)record->length <= 0 || record->option_bytes > TCP_OPTION_BYTES)
		return 0;
	record->kind = RECORD_PAYLOAD;
	record->family = is_ip4 ? 4 : 6;
	record->seq = bpf_ntohl(header.tcp.seq);
	record->ack = bpf_ntohl(header.tcp.ack);
	record->tcp_flags = header.tcp.flags;
	record->source_port = bpf_ntohs(header.tcp.source);
	record->destination_port = bpf_ntohs(header.tcp.destination);
	__builtin_memset(record->source, 0, 2 * sizeof(record->source));
	if (is_ip4) {
		bpf_probe_read_kernel(record->source, 4, (void *)(ip + 12));
		bpf_probe_read_kernel(record->destination, 4, (void *)(ip + 16));
	} else {
		bpf_probe_read_kernel(record->source, 2 * sizeof(record->source), (void *)(ip + 8));
	}
	bpf_probe_read_kernel(record->options, sizeof(record->options), (void *)(at + 20));
	return distance;
}

/* Sends the record. */
__noinline int send_told_payload(u64 journey, u64 skb)
{
	struct payload_room *room = payload_room();
	struct cpu_state *cpu = this_cpu_state();
	u64 bytes;

	if (!room || !cpu)
		return 0;
	room->record.cpu = bpf_get_smp_processor_id();
	room->record.tid = bpf_get_current_pid_tgid();
	room->record.journey = journey;
	room->record.skb = skb;
	room->record.at_mono_ns = bpf_ktime_get_ns();
	bytes = room->record.data_bytes;
	AS_IT_IS(bytes);
	if (bytes > PAYLOAD_BYTES ||
	    bpf_ringbuf_output(&ring, room, PAYLOAD_HEAD_BYTES + bytes, BPF_RB_NO_WAKEUP))
		COUNT(cpu->ring_full_facts);
	return 0;
}

/* The first eight bytes of what is at begin. */
static __always_inline u64 first_bytes(const struct skb_view *view, u64 skb, u64 begin)
{
	u32 bytes = 0;

	if (linear_bytes(view, begin) < sizeof(u64))
		begin = view->data_len ? first_fragment(view, skb, &bytes) : 0;
	return begin ? read_u64(begin) : 0;
}

/* Tells what a packet carries, if it may name a span. flow is the fingerprint of its headers. */
__noinline int tell_payload(u64 journey, u64 skb, u64 flow)
{
	struct payload_room *room = payload_room();
	struct open_head *open;
	struct skb_view view;
	u32 distance, left = 0;
	u64 ip;

	view_skb(&view, skb);
	ip = network_header_of(&view);
	distance = ip && room ? head_payload(ip, view.data + view.len) : 0;
	if (!distance)
		return 0;
	open = bpf_map_lookup_elem(&open_heads, &flow);
	if (open && open->seq == room->record.seq)
		left = open->left;
	if (looks_like_request(first_bytes(&view, skb, ip + distance)))
		left = MORE_PACKETS + 1;
	if (!left && room->record.option_bytes < LEAST_OPTION_BYTES)
		return 0;
	copy_payload(skb, ip + distance);
	if (left)
		follow_head(flow, left - 1);
	return send_told_payload(journey, skb);
}

#endif
