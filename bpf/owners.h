/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * owners.h - whose a socket is: its cgroup, and the thread that used it last.
 *
 * The thread that is current when a packet passes says little: in a soft
 * interrupt it is a bystander, and even outside of one it may be a daemon that
 * passes a verdict on the packet (NFQUEUE) or writes it to a tun device. So the
 * owner is noted where a program uses the socket (owner_programs.h), for all
 * sockets, and looked up by the socket's address when a followed packet shows it.
 */
#ifndef OTEL_KPROBE_OWNERS_H
#define OTEL_KPROBE_OWNERS_H

#include "maps.h"
#include "read.h"
#include "track.h"

#define MAX_OWNERS 32768
#define MAX_CGROUP_DEPTH 16

/* Of enum in include/net/tcp_states.h; both are in use by other things than a struct sock. */
#define STATE_TIME_WAIT 6
#define STATE_NEW_SYN_RECV 12

/* Which owner's packets are followed; constant to the verifier, as settings are. */
struct owner_settings {
	u64 cgroup; /* 0: any; else this one and those below it */
	u32 tgid;   /* 0: any */
	u8 wanted;  /* one of the others is set */
	u8 has_comm;
	u8 pad[2];
	u8 comm[16]; /* NUL-padded; compared in two halves */
};

const volatile struct owner_settings owner_settings = {};

/* The thread that used a socket last. */
struct socket_owner {
	u32 tgid;
	u32 tid;
	u8 comm[16];
};

/*
 * LRU: a full map gives up the socket that was unused for longest, which is
 * noted anew when it is used again. Entries go when their socket is destroyed,
 * since the address comes back; until then packets that a program left behind
 * when it exited are still its own.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_OWNERS);
	__type(key, u64); /* address of the sock */
	__type(value, struct socket_owner);
} owners SEC(".maps");

/* The full socket behind what an skb or an argument points at, or 0. */
static __always_inline u64 full_sock(u64 sock)
{
	u8 state = BPF_CORE_READ((struct sock *)sock, __sk_common.skc_state);

	if (state == STATE_NEW_SYN_RECV)
		return (u64)BPF_CORE_READ((struct sock *)sock, __sk_common.skc_listener);
	return state == STATE_TIME_WAIT ? 0 : sock;
}

static __always_inline int is_kernel_sock(u64 sock)
{
	struct sock *sk = (struct sock *)sock;

	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock);
}

/*
 * The cgroup (version 2) in which the socket was made. Before Linux 5.15
 * (https://git.kernel.org/torvalds/c/8520e224f547) one of the two lowest bits says
 * that the word holds something else. NULL: unknown, or the root.
 */
static __always_inline struct cgroup *cgroup_of(u64 sock)
{
	u64 word;

	if (bpf_core_field_size(((struct sock *)0)->sk_cgrp_data) < sizeof(word))
		return 0;
	word = read_u64(sock + bpf_core_field_offset(struct sock, sk_cgrp_data));
	return word & 3 ? 0 : (struct cgroup *)word;
}

/* Is the wanted cgroup this one, or above it? */
static __always_inline int is_wanted_cgroup(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *css = &cgroup->self;
	int i;

	for (i = 0; i < MAX_CGROUP_DEPTH && css; i++) {
		if (BPF_CORE_READ(css, cgroup, kn, id) == owner_settings.cgroup)
			return 1;
		css = BPF_CORE_READ(css, parent);
	}
	return 0;
}

static __always_inline int is_wanted_comm(const u8 *comm)
{
	const volatile u64 *wanted = (const volatile u64 *)owner_settings.comm;
	u64 halves[2];

	__builtin_memcpy(halves, comm, sizeof(halves));
	return halves[0] == wanted[0] && halves[1] == wanted[1];
}

/* Is this socket one of those whose packets are wanted? */
static __noinline int is_wanted_sock(u64 sock)
{
	struct socket_owner *owner;

	if (sock < LOWEST_KERNEL_ADDRESS)
		return 0;
	sock = full_sock(sock);
	if (!sock || is_kernel_sock(sock))
		return 0;
	if (owner_settings.cgroup && !is_wanted_cgroup(cgroup_of(sock)))
		return 0;
	if (!owner_settings.tgid && !owner_settings.has_comm)
		return 1;
	owner = bpf_map_lookup_elem(&owners, &sock);
	if (!owner || (owner_settings.tgid && owner->tgid != owner_settings.tgid))
		return 0;
	return !owner_settings.has_comm || is_wanted_comm(owner->comm);
}

#endif
