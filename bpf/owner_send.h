/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* owner_send.h - reports the socket of a followed skb, and asks for it before a journey begins. */
#ifndef OTEL_KPROBE_OWNER_SEND_H
#define OTEL_KPROBE_OWNER_SEND_H

#include "app_events.h"
#include "modes.h"
#include "owners.h"
#include <bpf/bpf_tracing.h>

/* Not inlined: it runs once or twice in a packet's life. */
static __noinline void send_owner(struct tracked_skb *state, u64 skb, u64 sock)
{
	struct cpu_state *cpu = this_cpu_state();
	struct socket_owner *owner;
	struct owner_record *record;
	u64 full = full_sock(sock);

	state->sock = sock;
	if (!cpu)
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		COUNT(cpu->ring_full_facts);
		return;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = RECORD_OWNER;
	record->cpu = bpf_get_smp_processor_id();
	record->journey = state->journey;
	record->skb = skb;
	record->at_mono_ns = bpf_ktime_get_ns();
	record->sock = full ? full : sock;
	if (!full || is_kernel_sock(full)) {
		record->flags = OWNER_KERNEL;
		bpf_ringbuf_submit(record, record_flag(cpu));
		return;
	}
	record->cgroup = BPF_CORE_READ(cgroup_of(full), kn, id);
	owner = bpf_map_lookup_elem(&owners, &full);
	if (owner) {
		record->flags = OWNER_PROCESS;
		record->tgid = owner->tgid;
		record->tid = owner->tid;
		__builtin_memcpy(record->comm, owner->comm, sizeof(record->comm));
	}
	bpf_ringbuf_submit(record, record_flag(cpu));
}

/*
 * The socket of the skb with which a function is entered: its argument where it
 * has one, since a received skb points at none for most of its way.
 */
static __always_inline u64 sock_of(struct pt_regs *ctx, u32 mode, u64 in_skb)
{
	u64 sock = 0;

	if (mode & MODE_SOCK)
		sock = PT_REGS_PARM1(ctx);
	return sock ? sock : in_skb;
}

/*
 * An skb that has no socket any more keeps its last one. What is no pointer is
 * what the kernel keeps in the same place while it puts fragments together.
 */
static __always_inline int refresh_owner(struct tracked_skb *state, u64 skb, u64 sock)
{
	if (sock == state->sock || sock < LOWEST_KERNEL_ADDRESS)
		return 0;
	send_owner(state, skb, sock);
	return 1;
}

/* Is the packet's owner one that is asked for, as far as is known by now? */
static __always_inline int wants_owner(struct pt_regs *ctx, u32 mode, u64 skb)
{
	if (!owner_settings.wanted)
		return 1;
	return is_wanted_sock(sock_of(ctx, mode, (u64)BPF_CORE_READ((struct sk_buff *)skb, sk)));
}

#endif
