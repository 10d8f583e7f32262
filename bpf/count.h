/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* count.h - counters of a CPU, which what interrupts a program counts, too. */
#ifndef OTEL_KPROBE_COUNT_H
#define OTEL_KPROBE_COUNT_H

/*
 * Adds one to a counter of a CPU. What interrupts a program runs programs as well, those
 * of trampolines and of tracepoints, and since 7.0 other threads run the latter, too.
 */
#define COUNT(counter) ((void)__sync_fetch_and_add(&(counter), 1))

/* As COUNT, and gives the new value. */
#ifdef NEW_KERNEL
#define NEXT(counter) (__sync_fetch_and_add(&(counter), 1) + 1)
#else /* no value before Linux 5.12 (https://git.kernel.org/torvalds/c/5ca419f2864a) */
#define NEXT(counter) (++(counter))
#endif

#endif
