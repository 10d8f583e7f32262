/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* app_sockets.h - sockets that belong to a span of their application, in both objects for packets. */
#ifndef OTEL_KPROBE_APP_SOCKETS_H
#define OTEL_KPROBE_APP_SOCKETS_H

#include "app_statements.h"
#include "read.h"

#define MAX_BOUND_SOCKETS 16384
#define FILE_TYPE 0170000
#define FILE_IS_SOCKET 0140000

/* LRU, by the address of the sock; an entry goes when the sock is destroyed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_BOUND_SOCKETS);
	__type(key, u64);
	__type(value, struct told_context);
} bound_sockets SEC(".maps");

/* The sock behind a file descriptor of the current process, 0: it is no socket. */
static __noinline u64 sock_of_fd(u32 fd)
{
	struct task_struct___files *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct socket *socket;
	struct file *file;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	file = (struct file *)read_u64((u64)BPF_CORE_READ(table, fd) + fd * sizeof(u64));
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & FILE_TYPE) != FILE_IS_SOCKET)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return (u64)BPF_CORE_READ(socket, sk);
}

static __always_inline u32 ports_of(u64 sock)
{
	return BPF_CORE_READ((struct sock *)sock, __sk_common.skc_portpair);
}

/*
 * Whether what is known of a sock is of the connection that it is now: the probe that would
 * have told the end of another one may have been left out. known: the ports of that, which
 * are learnt here when it was not connected at first.
 */
static __always_inline int is_of_connection(u32 *known, u64 sock)
{
	u32 ports = ports_of(sock);
	u32 peer = *known & 0xffff; /* in the order of the wire */

	barrier_var(peer); /* without a branch, whose both ways the verifier would follow */
	*known |= ports & -((peer - 1) >> 31);
	return *known == ports;
}

static __always_inline u8 side_of(u64 kind)
{
	if (kind == SOCKET_ASKS)
		return SIDE_ASKS;
	return kind == SOCKET_ANSWERS ? SIDE_ANSWERS : SIDE_ANSWERED;
}

/* Of a uprobe, so not inlined: see app_statements.h. */
static __noinline int take_socket(struct pt_regs *ctx)
{
	u64 sock = sock_of_fd(ctx->r8), kind = ctx->rax & STATEMENT_KIND;
	struct told_context *known;
	u8 side = side_of(kind);

	if (!sock)
		return 0;
	applications_seen = 1;
	if (side != SIDE_ANSWERED)
		return change_context(ctx, entry_of(&bound_sockets, &sock), side, ports_of(sock));
	known = bpf_map_lookup_elem(&bound_sockets, &sock);
	/* A span speaks of its end only while the socket is still its own. */
	if (!known || *(u64 *)known->app.span_id != ctx->rdi)
		return 0;
	if (kind == SOCKET_ANSWERED)
		return change_context(ctx, known, side, ports_of(sock));
	known->source = 0;
	bpf_map_delete_elem(&bound_sockets, &sock);
	return 0;
}

/*
 * The span that a socket belongs to, NULL: none. writes: it is asked for what the
 * application writes to it.
 */
static __always_inline struct told_context *socket_context(u64 sock, u32 writes)
{
	struct told_context *told = applications_seen ? bpf_map_lookup_elem(&bound_sockets, &sock) : 0;

	if (!told || !told->source || (!writes && told->side == SIDE_ANSWERED))
		return 0;
	return is_of_connection(&told->ports, sock) ? told : 0;
}

SEC("kprobe/application_statement")
int application_statement(struct pt_regs *ctx)
{
	if (!take_goroutine(ctx))
		take_socket(ctx);
	return 0;
}

#endif
