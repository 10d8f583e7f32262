/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* conntrack.h - reports the connection that a tracked skb belongs to. */
#ifndef OTEL_KPROBE_CONNTRACK_H
#define OTEL_KPROBE_CONNTRACK_H

#include "facts.h"
#include "maps.h"
#include "netfilter_types.h"
#include "read.h"

#define NFCT_INFO_MASK 7UL
#define AF_INET 2
#define AF_INET6 10

/*
 * Of enum ip_conntrack_status what a new record is worth: expected, reply seen,
 * assured, confirmed, source and destination translated, dying, offloaded. The
 * other bits are the kernel's own bookkeeping.
 */
#define NFCT_STATUS_MASK 0x423f

/* Where tuple number n lies in the connection. */
#define TUPLE_OFFSET(n)                                                        \
	((u64)bpf_core_field_offset(struct nf_conn, tuplehash) +               \
	 (n) * bpf_core_type_size(struct nf_conntrack_tuple_hash) +            \
	 bpf_core_field_offset(struct nf_conntrack_tuple_hash, tuple))

static __always_inline int is_tuple(const struct conntrack_tuple *tuple, u32 direction)
{
	return (tuple->family == AF_INET || tuple->family == AF_INET6) && tuple->direction == direction;
}

/*
 * Reads what does not change the connection's identity. A template (-j CT) and
 * a layout that is not the one that we know have no valid tuples: they stay 0.
 */
static __always_inline void read_conntrack(struct conntrack_record *record, u64 ct)
{
	bpf_probe_read_kernel(&record->original, sizeof(record->original), (void *)(ct + TUPLE_OFFSET(0)));
	bpf_probe_read_kernel(&record->reply, sizeof(record->reply), (void *)(ct + TUPLE_OFFSET(1)));
	if (!is_tuple(&record->original, 0) || !is_tuple(&record->reply, 1)) {
		__builtin_memset(&record->original, 0, sizeof(record->original));
		__builtin_memset(&record->reply, 0, sizeof(record->reply));
		return;
	}
	if (bpf_core_field_exists(struct nf_conn, mark))
		record->mark = read_u32(ct + bpf_core_field_offset(struct nf_conn, mark));
	if (bpf_core_field_exists(struct nf_conn, zone))
		record->zone = read_u32(ct + bpf_core_field_offset(struct nf_conn, zone));
	if (record->original.protocol == PROTOCOL_TCP)
		record->tcp_state = read_u8(ct + bpf_core_field_offset(struct nf_conn, proto.tcp.state));
}

static __noinline int send_conntrack(struct tracked_skb *state, u64 skb)
{
	struct cpu_state *cpu = this_cpu_state();
	struct conntrack_record *record;
	u64 ct;

	if (!cpu || !state)
		return 0;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		COUNT(cpu->ring_full_facts);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = RECORD_CONNTRACK;
	record->info = state->nfct & NFCT_INFO_MASK;
	record->cpu = bpf_get_smp_processor_id();
	record->tid = state->tid;
	record->journey = state->journey;
	record->skb = skb;
	record->at_mono_ns = bpf_ktime_get_ns();
	record->status = state->nfct_status;
	ct = state->nfct & ~NFCT_INFO_MASK;
	if (ct)
		read_conntrack(record, ct);
	bpf_ringbuf_submit(record, record_flag(cpu));
	return 0;
}

/*
 * Reports the connection when the skb has got another one, or when that one has
 * changed: address translation and confirmation come after its first sight.
 */
static __always_inline void refresh_conntrack(struct tracked_skb *state, u64 nfct, u64 skb)
{
	u32 status = 0;

	if (!nfct || !bpf_core_type_exists(struct nf_conn))
		return;
	if (nfct & ~NFCT_INFO_MASK)
		status = read_u32((nfct & ~NFCT_INFO_MASK) + bpf_core_field_offset(struct nf_conn, status)) &
			 NFCT_STATUS_MASK;
	if (state->nfct == nfct && state->nfct_status == status)
		return;
	state->nfct = nfct;
	state->nfct_status = status;
	send_conntrack(state, skb);
}

#endif
