/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * writes.h - the last writes to each TCP socket, in both objects.
 *
 * A packet carries bytes that a program wrote some time before: the window was
 * full, the packet is sent again, an acknowledgement made room. So which write,
 * and with it which span of the application, is told by sequence numbers and
 * not by the thread that happens to be current when the packet is sent.
 */
#ifndef OTEL_KPROBE_WRITES_H
#define OTEL_KPROBE_WRITES_H

#include "app_sockets.h"
#include <bpf/bpf_tracing.h>

#define MAX_WRITING_SOCKETS 8192
#define WRITES_PER_SOCKET 16 /* a power of two */

/*
 * A program writes to a socket. Its bytes end where the next write's begin. An older
 * write of the same span that had to make room is joined to it: at_mono_ns then is the
 * later time.
 */
struct socket_write {
	u64 at_mono_ns;
	u32 seq; /* of its first byte */
	u32 ack; /* what had been received by then: its answer has this number or a later one */
	struct told_context told;
};

struct socket_writes {
	u32 count; /* of all writes; the next one goes to last[count % WRITES_PER_SOCKET] */
	u32 ports; /* see is_of_connection */
	struct socket_write last[WRITES_PER_SOCKET];
};

/* LRU: a full map forgets the writes of the socket that was written to longest ago. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_WRITING_SOCKETS);
	__type(key, u64); /* address of the sock */
	__type(value, struct socket_writes);
} writes SEC(".maps");

const struct socket_writes no_writes = {};

/* The last writes to a socket, NULL: none are known. */
static __always_inline struct socket_writes *writes_to(u64 sock)
{
	struct socket_writes *known = bpf_map_lookup_elem(&writes, &sock);

	return known && is_of_connection(&known->ports, sock) ? known : 0;
}

/* (struct sock *, …), the socket is locked: TCP takes over what a program writes. */
SEC("kprobe/socket_written")
int socket_written(struct pt_regs *ctx)
{
	u64 sock = PT_REGS_PARM1(ctx);
	struct socket_writes *known = bpf_map_lookup_elem(&writes, &sock);
	struct socket_write *write, *next;
	struct told_context *told;

	if (!known) {
		bpf_map_update_elem(&writes, &sock, &no_writes, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&writes, &sock);
		if (!known)
			return 0;
	}
	if (!is_of_connection(&known->ports, sock))
		__builtin_memset(known, 0, sizeof(*known));
	write = &known->last[known->count & (WRITES_PER_SOCKET - 1)];
	next = &known->last[(known->count + 1) & (WRITES_PER_SOCKET - 1)];
	if (write->at_mono_ns && *(u64 *)next->told.app.span_id == *(u64 *)write->told.app.span_id) {
		next->seq = write->seq;
		next->ack = write->ack;
	}
	write->at_mono_ns = bpf_ktime_get_ns();
	write->seq = read_u32(sock + bpf_core_field_offset(struct tcp_sock, write_seq));
	write->ack = read_u32(sock + bpf_core_field_offset(struct tcp_sock, rcv_nxt));
	told = socket_context(sock, 1);
	if (told) {
		write->told = *told;
	} else {
		__builtin_memset(&write->told, 0, sizeof(write->told));
		read_thread_context(&write->told);
	}
	known->count++;
	return 0;
}

#endif
