/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * modes.h - how each probed function takes its skb, for the one program that
 * serves all of them.
 *
 * One program and one link instead of one for each way: the kernel waits for
 * several RCU grace periods for every link that it detaches, and two links on
 * one function send every call of it through ftrace's list of callbacks. The
 * attach cookie would tell the functions apart too, but reading it costs a
 * binary search a hit.
 */
#ifndef OTEL_KPROBE_MODES_H
#define OTEL_KPROBE_MODES_H

#include "kernel_types.h"

/* What modes holds. Zero: the skb is the first argument, and nothing special. */
enum function_mode {
	MODE_ARGUMENT = 7,      /* mask: number of the argument register, from 0 */
	MODE_INDIRECT = 1 << 3, /* the argument is a struct sk_buff ** */
	MODE_NO_START = 1 << 4, /* no journey begins here: the skb is being made or freed */
	MODE_KIN = 7 << 5,      /* mask: enum kin */
	MODE_KIN_SHIFT = 5,
	MODE_END = 7 << 8,      /* mask: enum end_how of a function that ends its skb, 0: none */
	MODE_END_SHIFT = 8,
	MODE_SOCK = 1 << 11,    /* the first argument is the struct sock * that the skb belongs to */
	MODE_READS = 1 << 12,   /* the current thread gets the packet's data */
};

/* What a function does with its skb and others, known when it returns. */
enum kin {
	KIN_NONE = 0,
	KIN_CLONES = 1,        /* returns an skb, or a list, of the same packet */
	KIN_DERIVES = 2,       /* returns an skb, or a list, each a packet of its own */
	KIN_DERIVES_FIRST = 3, /* makes its first argument a packet of its own */
	KIN_MERGES_ZERO = 4,   /* merges its skb into its first argument when it returns an int of 0 */
	KIN_MERGES_TRUE = 5,   /* … a bool of true */
	KIN_GATHERS = 6,       /* the skbs of its skb's frag_list are merged into it */
	KIN_CHAINS = 7,        /* … are chained to it (GRO's list mode), if it is marked so */
};

#endif
