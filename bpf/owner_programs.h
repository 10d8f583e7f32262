/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * owner_programs.h - notes who uses a socket, in both objects.
 *
 * internal/probe names the functions. They run once a system call on a socket
 * of the Internet families, not once a packet, and in the caller's thread: what
 * is current there is the owner, without having to know whether this is a soft
 * interrupt. In the common case, the same thread again, nothing is written.
 */
#ifndef OTEL_KPROBE_OWNER_PROGRAMS_H
#define OTEL_KPROBE_OWNER_PROGRAMS_H

#include "owners.h"
#include "writes.h"
#include <bpf/bpf_tracing.h>

/* (struct socket *, …): sending, receiving, connecting, listening … */
SEC("kprobe/socket_used")
int socket_used(struct pt_regs *ctx)
{
	u64 sock = read_u64(PT_REGS_PARM1(ctx) + bpf_core_field_offset(struct socket, sk));
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct socket_owner *known = bpf_map_lookup_elem(&owners, &sock);
	struct socket_owner owner = {.tgid = pid_tgid >> 32, .tid = pid_tgid};

	if ((known && known->tid == owner.tid) || !sock)
		return 0;
	bpf_get_current_comm(owner.comm, sizeof(owner.comm));
	if (known)
		*known = owner;
	else
		bpf_map_update_elem(&owners, &sock, &owner, BPF_ANY);
	return 0;
}

/* (struct sock *listener, struct sock *child, …): a connection that its user has not accepted yet. */
SEC("kprobe/socket_child")
int socket_child(struct pt_regs *ctx)
{
	u64 listener = PT_REGS_PARM1(ctx), child = PT_REGS_PARM2(ctx);
	struct socket_owner *known = bpf_map_lookup_elem(&owners, &listener);
	struct socket_owner owner;

	if (!known || !child)
		return 0;
	owner = *known;
	/* In the place of what a sock left there whose end was not seen. */
	bpf_map_update_elem(&owners, &child, &owner, BPF_ANY);
	return 0;
}

/* (struct sock *): the last thing that is done with a socket before its memory is freed. */
SEC("kprobe/socket_gone")
int socket_gone(struct pt_regs *ctx)
{
	u64 sock = PT_REGS_PARM1(ctx);

	bpf_map_delete_elem(&owners, &sock);
	bpf_map_delete_elem(&writes, &sock);
	bpf_map_delete_elem(&bound_sockets, &sock);
	return 0;
}

#endif
