/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* ring.h - the ring buffer, and when its reader is woken. */
#ifndef OTEL_KPROBE_RING_H
#define OTEL_KPROBE_RING_H

#include "kernel_types.h"
#include <bpf/bpf_helpers.h>

#define RECORDS_PER_QUERY 64

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring SEC(".maps");

/*
 * A wake-up a record costs a context switch a record. The reader looks by
 * itself every few milliseconds; it is woken before that only when wakeup_bytes
 * of the ring are unread, which is asked once in RECORDS_PER_QUERY records a
 * CPU: since_query counts them.
 */
static __always_inline u64 wakeup_flag(u32 *since_query, u32 wakeup_bytes)
{
	if (++*since_query < RECORDS_PER_QUERY)
		return BPF_RB_NO_WAKEUP;
	*since_query = 0;
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < wakeup_bytes)
		return BPF_RB_NO_WAKEUP;
	return BPF_RB_FORCE_WAKEUP;
}

#endif
