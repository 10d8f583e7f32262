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

#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04

#define RCV_SHUTDOWN 1 /* of sk_shutdown: the peer has sent its FIN */
#define TCP_FLAG_ACK 0x10

/*
 * The functions below that are not static are verified once, for whatever numbers they
 * are called with, and not again on each path to a call (since Linux 5.6,
 * https://git.kernel.org/torvalds/c/51c39bb1d5d1): without that the verifier of 5.10
 * gives up. A pointer with a type is no number to it.
 */

/* A record about skb, to be filled further (app, too) and submitted; NULL when there is no room. */
static __always_inline struct app_record *new_app_record(struct cpu_state *cpu, u64 journey, u64 skb, u8 what)
{
	struct app_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		COUNT(cpu->ring_full_facts);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record) - sizeof(record->app));
	record->kind = RECORD_APP;
	record->what = what;
	record->cpu = bpf_get_smp_processor_id();
	record->tid = bpf_get_current_pid_tgid();
	record->journey = journey;
	record->skb = skb;
	record->at_mono_ns = bpf_ktime_get_ns();
	return record;
}

static __always_inline void tell_context(struct app_record *record, const struct told_context *told)
{
	record->source = told->source;
	record->flags = told->flags;
	record->app = told->app;
}

/* Tells the write of that number; asked by who has found it. */
__noinline int tell_write(u64 sock, u64 journey, u64 skb, u32 number)
{
	struct socket_writes *known = bpf_map_lookup_elem(&writes, &sock);
	struct cpu_state *cpu = this_cpu_state();
	struct app_record *record = known && cpu ? new_app_record(cpu, journey, skb, APP_WRITES) : 0;
	struct socket_write *write;

	if (!record)
		return 0;
	write = &known->last[number & (WRITES_PER_SOCKET - 1)];
	record->write_mono_ns = write->at_mono_ns;
	record->seq = write->seq;
	tell_context(record, &write->told);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); /* a frame's record follows */
	return 0;
}

/* Tells a span that a program did what in with a packet. */
static __always_inline int tell_span(const struct told_context *told, u64 journey, u64 skb, u32 what)
{
	struct cpu_state *cpu = this_cpu_state();
	struct app_record *record = cpu ? new_app_record(cpu, journey, skb, what) : 0;

	if (!record)
		return 0;
	tell_context(record, told);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * Has a server begun to answer in the span that its socket belongs to? Then what comes in
 * may be the next request already, before its program knows that.
 */
static __always_inline int answers_already(const struct told_context *bound, u64 sock)
{
	struct socket_writes *known;
	u32 last;

	if (bound->side != SIDE_ANSWERS)
		return 0;
	known = writes_to(sock);
	if (!known || !known->count)
		return 0;
	last = (known->count - 1) & (WRITES_PER_SOCKET - 1);
	return *(u64 *)known->last[last].told.app.span_id == *(u64 *)bound->app.span_id;
}

/*
 * The user of a socket does what with a packet: in the span that the socket belongs
 * to, else, with by_thread, in that of the current thread. Outside of a span nothing
 * is told.
 */
__noinline int tell_user(u64 sock, u64 journey, u64 skb, u32 what, u32 by_thread)
{
	const struct told_context *bound = socket_context(sock, 0);
	struct told_context told = {};

	if (bound && !(what == APP_READS && answers_already(bound, sock)))
		told = *bound;
	else if (by_thread)
		read_thread_context(&told);
	return told.source ? tell_span(&told, journey, skb, what) : 0;
}

/*
 * Which of a socket's writes is the last one whose sequence number, or by_ack what it
 * had received by then, is below a limit: its number and 1; 0, none. Counted without
 * branches, which the verifier would all follow. It means something to who has found
 * writes_to the socket.
 */
__noinline int last_write(u64 sock, u32 limit, u32 by_ack)
{
	struct socket_writes *known = bpf_map_lookup_elem(&writes, &sock);
	u32 behind = (by_ack & 1) * sizeof(u32); /* ack is behind seq */
	u32 i, before = 0, first;

	if (!known)
		return 0;
	for (i = 0; i < WRITES_PER_SOCKET; i++) {
		struct socket_write *write = &known->last[i];
		u32 value = *(u32 *)((u8 *)&write->seq + behind);

		before += (value - limit) >> 31 & (u32)(-write->at_mono_ns >> 63);
	}
	first = known->count < WRITES_PER_SOCKET ? 0 : known->count - WRITES_PER_SOCKET;
	return before ? first + before : 0;
}

/*
 * A socket acknowledges what came before ack, without data. Of a client that is the
 * answer to what it wrote last before that came, whichever span it is in by now. Of
 * what else only servers' sockets that belong to a span are known to be of it. What
 * acknowledges a FIN, which may come much later, is nobody's.
 */
__noinline int tell_acknowledgement(u64 sock, u64 journey, u64 skb, u32 ack)
{
	struct socket_writes *known = applications_seen ? writes_to(sock) : 0;
	const struct told_context *told = 0;
	u32 number;

	if (BPF_CORE_READ((struct sock *)sock, sk_shutdown) & RCV_SHUTDOWN)
		return 0;
	if (known) {
		number = last_write(sock, ack, 1);
		if (number)
			told = &known->last[(number - 1) & (WRITES_PER_SOCKET - 1)].told;
		if (!told || told->side != SIDE_ASKS) {
			told = socket_context(sock, 0);
			if (told && (told->side != SIDE_ANSWERS || answers_already(told, sock)))
				told = 0;
		}
	} else if (applications_seen) {
		told = socket_context(sock, 0); /* the end of a handshake */
	}
	return told ? tell_span(told, journey, skb, APP_SENDS) : 0;
}

/*
 * Tells the writes that sequence numbers from begin to end come from: from the last one
 * on that began no later.
 */
__noinline int tell_writes(u64 sock, u64 journey, u64 skb, u32 begin, u32 end)
{
	struct socket_writes *known = writes_to(sock);
	u32 i, number = last_write(sock, begin + 1, 0);

	if (!known)
		return 0;
	if (number)
		number--;
	else if (known->count > WRITES_PER_SOCKET)
		number = known->count - WRITES_PER_SOCKET;
	for (i = 0; i < MAX_APP_WRITES && (s32)(known->count - number) > 0; i++, number++) {
		struct socket_write *write = &known->last[number & (WRITES_PER_SOCKET - 1)];
		struct socket_write *next = &known->last[(number + 1) & (WRITES_PER_SOCKET - 1)];

		if ((s32)(write->seq - end) >= 0)
			break;
		if (number + 1 == known->count || next->seq != write->seq) /* else nothing was taken over */
			tell_write(sock, journey, skb, number);
	}
	return 0;
}

/*
 * A followed packet, from its network header at ip to behind, shows a socket, which a
 * thread used last. What the socket did not send says nothing here. An acknowledgement
 * may be sent for another span than the thread is in by now, so of TCP without data
 * the thread speaks for a connection's first packet only. What ends a connection is
 * nobody's.
 */
__noinline int tell_sender(u64 journey, u64 skb, u64 sock, u64 ip, u64 behind)
{
	/* A program sends no extension headers before TCP and UDP. */
	u32 is_ip4 = ip && read_u8(ip) >> 4 == 4;
	u8 protocol = ip ? read_u8(ip + (is_ip4 ? 9 : 6)) : 0;
	u64 at = ip + (is_ip4 ? (read_u8(ip) & 15) * 4 : sizeof(struct ip6_header));
	union transport_header header = {};
	struct socket_owner *owner;
	u32 begin, bytes, by_thread;

	sock = full_sock(sock);
	if (!ip || !sock || is_kernel_sock(sock))
		return 0;
	bpf_probe_read_kernel(&header, sizeof(header), (void *)at);
	if ((protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP) &&
	    bpf_ntohs(header.tcp.source) != BPF_CORE_READ((struct sock *)sock, __sk_common.skc_num))
		return 0;
	if (protocol == PROTOCOL_TCP) {
		begin = bpf_ntohl(header.tcp.seq);
		bytes = behind - at - (header.tcp.offset >> 4) * 4;
		if (bytes)
			return tell_writes(sock, journey, skb, begin, begin + bytes);
		if (header.tcp.flags & (TCP_FLAG_FIN | TCP_FLAG_RST))
			return 0;
		if (header.tcp.flags & TCP_FLAG_ACK)
			return settings.correlate ? tell_acknowledgement(sock, journey, skb, bpf_ntohl(header.tcp.ack)) : 0;
	}
	owner = bpf_map_lookup_elem(&owners, &sock);
	by_thread = owner && owner->tid == (u32)bpf_get_current_pid_tgid();
	if (settings.correlate)
		tell_user(sock, journey, skb, APP_SENDS, by_thread);
	return 0;
}

#endif
