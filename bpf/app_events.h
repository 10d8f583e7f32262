/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * app_events.h - what an application did with a followed packet, and in which span of
 * its own: wrote the bytes that it carries, sent it, read its data.
 */
#ifndef OTEL_KPROBE_APP_EVENTS_H
#define OTEL_KPROBE_APP_EVENTS_H

#include "facts.h"
#include "owners.h"
#include "writes.h"

#define MAX_APP_WRITES 4 /* writes that are told of one packet */

#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_ACK 0x10

/* What a packet that a socket sends has in its headers. */
struct sent_packet {
	u8 protocol;
	u8 tcp_flags;
	u16 source_port; /* 0 where the protocol has none */
	u32 begin;       /* TCP: sequence numbers of its first byte and behind its last */
	u32 end;
};

/* A record about skb, to be filled further and submitted; NULL when there is no room. */
static __always_inline struct app_record *new_app_record(struct cpu_state *cpu, u64 journey, u64 skb, u8 what)
{
	struct app_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		cpu->ring_full_facts++;
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = RECORD_APP;
	record->what = what;
	record->cpu = bpf_get_smp_processor_id();
	record->tid = bpf_get_current_pid_tgid();
	record->journey = journey;
	record->skb = skb;
	record->at_mono_ns = bpf_ktime_get_ns();
	return record;
}

static __always_inline void tell_write(u64 journey, u64 skb, const struct socket_write *write)
{
	struct cpu_state *cpu = this_cpu_state();
	struct app_record *record = cpu ? new_app_record(cpu, journey, skb, APP_WRITES) : 0;

	if (!record)
		return;
	record->write_mono_ns = write->at_mono_ns;
	record->seq = write->seq;
	record->source = write->source;
	if (write->source)
		record->app = write->app;
	bpf_ringbuf_submit(record, record_flag(cpu));
}

/* The current thread does what with a packet. Outside of a span nothing is told. */
static __noinline int tell_thread(u64 journey, u64 skb, u32 what)
{
	const struct app_context *app = thread_context();
	struct cpu_state *cpu = this_cpu_state();
	struct app_record *record = app && cpu ? new_app_record(cpu, journey, skb, what) : 0;

	if (!record)
		return 0;
	record->source = APP_THREAD;
	record->app = *app;
	bpf_ringbuf_submit(record, record_flag(cpu));
	return 0;
}

/* Reads the headers from the network header on; false when they say nothing. */
static __always_inline int read_sent(struct sent_packet *sent, const struct skb_view *view)
{
	u64 ip = network_header_of(view), at;
	union transport_header header;
	u8 first;

	if (!ip)
		return 0;
	first = read_u8(ip);
	if (first >> 4 == 4) {
		sent->protocol = read_u8(ip + 9);
		at = ip + (first & 15) * 4;
	} else { /* extension headers before TCP or UDP are not sent by programs */
		sent->protocol = read_u8(ip + 6);
		at = ip + sizeof(struct ip6_header);
	}
	if (bpf_probe_read_kernel(&header, sizeof(header), (void *)at))
		return 0;
	if (sent->protocol == PROTOCOL_TCP || sent->protocol == PROTOCOL_UDP)
		sent->source_port = bpf_ntohs(header.tcp.source);
	if (sent->protocol == PROTOCOL_TCP) {
		sent->tcp_flags = header.tcp.flags;
		sent->begin = bpf_ntohl(header.tcp.seq);
		at += (header.tcp.offset >> 4) * 4;
		sent->end = sent->begin + view->len - (u32)(at - view->data);
	}
	return 1;
}

/* Tells the writes that sequence numbers from begin to end come from. */
static __noinline int tell_writes(u64 sock, u64 journey, u64 skb, const struct sent_packet *sent)
{
	struct socket_writes *known = bpf_map_lookup_elem(&writes, &sock);
	u32 i, told = 0;

	if (!known || !sent)
		return 0;
	for (i = 0; i < WRITES_PER_SOCKET && told < MAX_APP_WRITES; i++) {
		u32 number = known->count - WRITES_PER_SOCKET + i;
		struct socket_write *write = &known->last[number & (WRITES_PER_SOCKET - 1)];
		struct socket_write *next = &known->last[(number + 1) & (WRITES_PER_SOCKET - 1)];

		if (!write->at_mono_ns || (s32)(write->seq - sent->end) >= 0)
			continue;
		if (i < WRITES_PER_SOCKET - 1 && (s32)(next->seq - sent->begin) <= 0)
			continue;
		tell_write(journey, skb, write);
		told++;
	}
	return 0;
}

/*
 * A followed skb shows a socket, which a thread used last. What the socket did not
 * send says nothing here. An acknowledgement may be sent for another span than the
 * thread is in by now, so of TCP without data only a connection's first packet counts.
 */
static __noinline int tell_sender(u64 journey, const struct skb_view *view, u64 skb, u64 sock)
{
	struct sent_packet sent = {};
	struct socket_owner *owner;

	sock = full_sock(sock);
	if (!view || !sock || is_kernel_sock(sock) || !read_sent(&sent, view))
		return 0;
	if (sent.source_port && sent.source_port != BPF_CORE_READ((struct sock *)sock, __sk_common.skc_num))
		return 0;
	if (sent.begin != sent.end)
		return tell_writes(sock, journey, skb, &sent);
	if (sent.protocol == PROTOCOL_TCP && (sent.tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) != TCP_FLAG_SYN)
		return 0;
	owner = bpf_map_lookup_elem(&owners, &sock);
	if (settings.correlate && owner && owner->tid == (u32)bpf_get_current_pid_tgid())
		tell_thread(journey, skb, APP_SENDS);
	return 0;
}

#endif
