/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* app_sockets.h - sockets that belong to a span of their application, in both objects for packets. */
#ifndef OTEL_KPROBE_APP_SOCKETS_H
#define OTEL_KPROBE_APP_SOCKETS_H

#include "app_notes.h"
#include "read.h"

#define MAX_NOTED_SOCKETS 16384
#define FILE_TYPE 0170000
#define FILE_IS_SOCKET 0140000

struct noted_socket {
	struct told_context told;
	u8 answered; /* the span has ended: only what is written counts */
	u8 pad[7];
};

/* LRU, by the address of the sock; an entry goes when the sock is destroyed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_NOTED_SOCKETS);
	__type(key, u64);
	__type(value, struct noted_socket);
} noted_sockets SEC(".maps");

/* The sock behind a file descriptor of the current process, 0: it is no socket. */
static __always_inline u64 sock_of_fd(u32 fd)
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

static __always_inline void note_socket(struct pt_regs *ctx)
{
	u64 sock = sock_of_fd(ctx->r8), kind = ctx->rax & NOTE_KIND;
	struct noted_socket noted = {.answered = kind == NOTE_SOCKET_ANSWERED}, *known;

	if (!sock)
		return;
	read_note(ctx, &noted.told);
	noted.told.side = kind == NOTE_SOCKET_ASKS ? SIDE_ASKS : SIDE_ANSWERS;
	known = bpf_map_lookup_elem(&noted_sockets, &sock);
	applications_seen = 1;
	if (!known) {
		if (kind == NOTE_SOCKET_ASKS || kind == NOTE_SOCKET_ANSWERS)
			count_note(bpf_map_update_elem(&noted_sockets, &sock, &noted, BPF_ANY));
		return;
	}
	/* A span speaks for the socket only while that is still its own. */
	if ((kind == NOTE_SOCKET_ANSWERED || kind == NOTE_SOCKET_FREE) &&
	    *(u64 *)known->told.app.span_id != *(u64 *)noted.told.app.span_id)
		return;
	if (kind == NOTE_SOCKET_FREE)
		noted.told.source = 0;
	change_context(&known->told, &noted.told);
	known->answered = noted.answered;
	if (kind == NOTE_SOCKET_FREE)
		bpf_map_delete_elem(&noted_sockets, &sock);
}

/*
 * The span that a socket belongs to, NULL: none. writes: it is asked for what the
 * application writes to it.
 */
static __always_inline struct told_context *socket_context(u64 sock, u32 writes)
{
	struct noted_socket *noted = applications_seen ? bpf_map_lookup_elem(&noted_sockets, &sock) : 0;

	return noted && noted->told.source && (writes || !noted->answered) ? &noted->told : 0;
}

SEC("kprobe/application_note")
int application_note(struct pt_regs *ctx)
{
	if (!note_goroutine(ctx))
		note_socket(ctx);
	return 0;
}

#endif
