/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * probes.h - one program for each way in which a function takes its skb, for the
 * kernels where a program cannot learn which function it was called for.
 *
 * PROBE(name, section, skb, mode) is the includer's. User space loads only
 * those that it attaches, by these names.
 */

#include "ends.h"
#include "owner_programs.h"

#define ARGUMENTS(X)                                                           \
	X(0, PT_REGS_PARM1)                                                    \
	X(1, PT_REGS_PARM2)                                                    \
	X(2, PT_REGS_PARM3)                                                    \
	X(3, PT_REGS_PARM4)                                                    \
	X(4, PT_REGS_PARM5)                                                    \
	X(5, SIXTH_PARM)

#define PLAIN(n, parm) PROBE(plain_##n, "plain_" #n, parm(ctx), 0)
#define NO_START(n, parm) PROBE(no_start_##n, "no_start_" #n, parm(ctx), MODE_NO_START)
/* struct sk_buff ** : the skb that it points at when the function is entered. */
#define INDIRECT(n, parm) PROBE(indirect_##n, "indirect_" #n, read_u64(parm(ctx)), 0)

ARGUMENTS(PLAIN)
ARGUMENTS(NO_START)
ARGUMENTS(INDIRECT)
/* A socket, and then the skb that belongs to it. */
PROBE(sock_1, "sock_1", PT_REGS_PARM2(ctx), MODE_SOCK)

/* The current thread gets the packet's data, from the queue or when it has been freed. */
PROBE(reads_0, "reads_0", PT_REGS_PARM1(ctx), MODE_READS)
PROBE(reads_1, "reads_1", PT_REGS_PARM2(ctx), MODE_READS | MODE_NO_START)

/* What meets other packets: enum kin. */
#define KIN(name, parm, kin) PROBE(name, #name, parm(ctx), (kin) << MODE_KIN_SHIFT)

KIN(clones_0, PT_REGS_PARM1, KIN_CLONES)
KIN(derives_0, PT_REGS_PARM1, KIN_DERIVES)
KIN(derives_first_1, PT_REGS_PARM2, KIN_DERIVES_FIRST)
KIN(merges_zero_1, PT_REGS_PARM2, KIN_MERGES_ZERO)
KIN(merges_true_1, PT_REGS_PARM2, KIN_MERGES_TRUE)
KIN(gathers_1, PT_REGS_PARM2, KIN_GATHERS)
KIN(chains_0, PT_REGS_PARM1, KIN_CHAINS)
