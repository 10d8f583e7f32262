/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * callees.h - functions without an skb, as frames of the packet whose frame
 * called them, directly or not (--non-skb-funcs).
 *
 * Nothing of the skb is read: it may be freed or on another CPU by now. What is
 * known of it is copied from the calling frame. It does not count among the
 * frames that were entered on the skb either; the caller, which does, returns
 * after it, so a journey that waits for its callers waits for their callees.
 */
#ifndef OTEL_KPROBE_CALLEES_H
#define OTEL_KPROBE_CALLEES_H

#include "frame.h"

/*
 * The entry of a function without an skb. Returns the cookie that its return
 * must bring to leave_frame, 0 when no frame is open that it runs in.
 */
static __noinline u64 begin_callee(struct pt_regs *ctx)
{
	struct cpu_state *cpu = this_cpu_state();
	u64 stack_pointer = PT_REGS_SP(ctx);
	u64 stack = stack_of(stack_pointer);
	u64 *note = bpf_map_lookup_elem(&notes, &stack);
	struct slot *caller, *slot;
	u64 now, outer;
	u32 index;

	if (!note || !cpu)
		return 0;
	if (sheds(ctx))
		return 0;
	now = bpf_ktime_get_ns();
	outer = caller_of(*note, stack_pointer, now);
	caller = outer ? open_slot(outer) : 0;
	if (!caller)
		return 0;
	slot = take_slot(cpu, now, &index);
	if (!slot) {
		COUNT(cpu->slots_full);
		caller->frame.flags |= FRAME_CALLEES_LOST;
		return 0;
	}
	slot->generation++;
	slot->busy = 1;
	slot->kin = 0;
	slot->outer = outer;
	slot->frame = caller->frame;
	slot->frame.flags = FRAME_NO_SKB;
	slot->frame.cpu = bpf_get_smp_processor_id();
	slot->frame.func = func_of(ctx);
	slot->frame.stack = stack_pointer;
	slot->frame.enter_mono_ns = now;
	slot->frame.ordinal = 0;
	*note = cookie_of(slot, index);
	return *note;
}

#endif
