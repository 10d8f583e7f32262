/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* block_filter.h - which requests are wanted. */
#ifndef OTEL_KPROBE_BLOCK_FILTER_H
#define OTEL_KPROBE_BLOCK_FILTER_H

#include "block_state.h"

static __always_inline int wants_operation(u32 operation)
{
	return !settings.operations || settings.operations >> (operation & 63) & 1;
}

static __always_inline int wants_device(u32 device, u32 partition)
{
	u32 i;

	if (!settings.device_count)
		return 1;
#pragma unroll
	for (i = 0; i < MAX_DEVICES; i++) {
		if (i >= settings.device_count)
			break;
		if (settings.devices[i] == device || (partition && settings.devices[i] == partition))
			return 1;
	}
	return 0;
}

/*
 * What was written back belongs to no process. What we submit ourselves, for a
 * file of spans, would report itself for ever.
 */
static __always_inline int wants_submitter(const struct submitter *submitter, u8 flags)
{
	if (submitter->tgid && submitter->tgid == settings.own_tgid)
		return 0;
	if (settings.tgid && (submitter->tgid != settings.tgid || flags & BLOCK_WRITEBACK))
		return 0;
	return !settings.cgroup || flags & BIO_IN_CGROUP;
}

#endif
