/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * probes.h - one program for each way in which a function takes its skb.
 *
 * PROBE(name, section, skb, mode) is the includer's. A program an argument
 * instead of one program with an attach cookie: reading the cookie of a
 * multi link costs a binary search a hit. User space loads only those that it
 * attaches, by these names.
 */

#include "ends.h"

#define ARGUMENTS(X)                                                           \
	X(0, PT_REGS_PARM1)                                                    \
	X(1, PT_REGS_PARM2)                                                    \
	X(2, PT_REGS_PARM3)                                                    \
	X(3, PT_REGS_PARM4)                                                    \
	X(4, PT_REGS_PARM5)                                                    \
	X(5, SIXTH_PARM)

/* PT_REGS_PARM6 of bpf_tracing.h came with libbpf 1.2. */
#define SIXTH_PARM(ctx) ((ctx)->r9)

#define PLAIN(n, parm) PROBE(plain_##n, "plain_" #n, parm(ctx), ENTRY_PLAIN)
#define NO_START(n, parm) PROBE(no_start_##n, "no_start_" #n, parm(ctx), ENTRY_NO_START)
/* struct sk_buff ** : the skb that it points at when the function is entered. */
#define INDIRECT(n, parm) PROBE(indirect_##n, "indirect_" #n, read_u64(parm(ctx)), ENTRY_PLAIN)

ARGUMENTS(PLAIN)
ARGUMENTS(NO_START)
ARGUMENTS(INDIRECT)
PROBE(clones_0, "clones_0", PT_REGS_PARM1(ctx), ENTRY_CLONES)

END_PROBE(end_freed, "kprobe/end_freed", END_FREED)
END_PROBE(end_merged, "kprobe/end_merged", END_MERGED)
END_PROBE(end_deferred, "kprobe/end_deferred", END_DEFERRED)
