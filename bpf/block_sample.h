/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * block_sample.h - which requests --sample keeps. Their randomness is a hash of id and
 * begin, which the record has: event.Block makes the same one of it. So each is
 * decided apart, and anew in each run. What serves another request or bio is kept with
 * that, or left out with it.
 */
#ifndef OTEL_KPROBE_BLOCK_SAMPLE_H
#define OTEL_KPROBE_BLOCK_SAMPLE_H

#include "block_state.h"
#include "mix.h"

/* BIO_UNSAMPLED if what has no parent is to be left out, else 0. begin: its issue, or its submission without one. */
static __always_inline u8 unsampled_flag(u64 id, u64 begin_mono_ns)
{
	if (!settings.sample_threshold)
		return 0;
	return mix(mix(id) ^ begin_mono_ns) >> RANDOMNESS_SHIFT < settings.sample_threshold ? BIO_UNSAMPLED : 0;
}

#endif
