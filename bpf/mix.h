/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* mix.h - the hash of what is sampled. */
#ifndef OTEL_KPROBE_MIX_H
#define OTEL_KPROBE_MIX_H

#include "kernel_types.h"

#define GOLDEN 0x9e3779b97f4a7c15ULL /* 2^64 / φ, as in SplitMix64 */
#define RANDOMNESS_SHIFT 8           /* 56 bits are left */

/* The finalizer of SplitMix64 (https://prng.di.unimi.it/splitmix64.c): a bijection. */
static __always_inline u64 mix(u64 value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

#endif
