/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * last_skbs.h - the tracked skbs that a CPU worked on last.
 *
 * An XDP program is given a buffer and not the skb that generic XDP, or veth, has
 * around it. That skb was seen just before.
 */
#ifndef OTEL_KPROBE_LAST_SKBS_H
#define OTEL_KPROBE_LAST_SKBS_H

#include "kernel_types.h"
#include <bpf/bpf_helpers.h>

#define LAST_SKBS 4 /* veth frees the skb that it has copied before it runs the program */

/* Set by user space for --trace-xdp; without it nothing is noted. */
const volatile u8 trace_xdp = 0;

struct last_skbs {
	u64 skbs[LAST_SKBS];
	u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct last_skbs);
} last_skbs SEC(".maps");

static __always_inline struct last_skbs *these_last_skbs(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&last_skbs, &zero);
}

static __always_inline void note_last_skb(u64 skb)
{
	struct last_skbs *last = these_last_skbs();

	if (!last || last->skbs[last->count & (LAST_SKBS - 1)] == skb)
		return;
	last->count++;
	last->skbs[last->count & (LAST_SKBS - 1)] = skb;
}

#endif
