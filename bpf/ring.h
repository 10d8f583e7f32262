/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* ring.h - when the reader of the ring buffer is woken. */
#ifndef OTEL_KPROBE_RING_H
#define OTEL_KPROBE_RING_H

#include "maps.h"

#define RECORDS_PER_QUERY 64

/*
 * A wake-up a record costs a context switch a record. The reader looks by
 * itself every few milliseconds; it is woken before that only when much of the
 * ring is unread, which is asked once in RECORDS_PER_QUERY records a CPU.
 */
static __always_inline u64 wakeup_flag(struct cpu_state *cpu)
{
	if (++cpu->since_query < RECORDS_PER_QUERY)
		return BPF_RB_NO_WAKEUP;
	cpu->since_query = 0;
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < settings.wakeup_bytes)
		return BPF_RB_NO_WAKEUP;
	return BPF_RB_FORCE_WAKEUP;
}

/*
 * When the reader falls behind, packets are left out as a whole: the rest of
 * the ring is for those that are followed already, so that their traces are
 * complete.
 */
static __always_inline int reader_is_behind(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= settings.shed_bytes;
}

#endif
