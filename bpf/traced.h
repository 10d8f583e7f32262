/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * traced.h - BPF programs of others on the packet's way (--trace-tc, --trace-xdp).
 *
 * Each traced program gets a pair of these on its entry and return, by a BPF
 * trampoline (Linux 5.5, https://git.kernel.org/torvalds/c/fec56f5890d9). User
 * space loads the pair once for each, with its own constant traced_func.
 */
#ifndef OTEL_KPROBE_TRACED_H
#define OTEL_KPROBE_TRACED_H

#include "xdp.h"

SEC("fentry/tc_enter")
int tc_enter(u64 *ctx)
{
	u64 skb = run_argument(ctx, 0);
	struct tracked_skb *state = 0;

	if (live)
		state = bpf_map_lookup_elem(&tracked, &skb);
	if (!state) {
		if (trace_xdp)
			state = join_buffer(skb);
		if (!state && (!matches(skb) || !wants_owner(0, 0, skb)))
			return 0;
		if (!state)
			state = start_journey(skb, 1);
		if (!state)
			return 0;
	}
	return begin_run(ctx, state, skb, RUN_SKB);
}

/* The return of any traced program. */
SEC("fexit/run_leave")
int run_leave(u64 *ctx)
{
	struct run_scratch *scratch;
	struct cpu_state *cpu;
	struct open_run *run;
	u64 key;

	if (!open_run_count)
		return 0;
	scratch = this_scratch();
	cpu = this_cpu_state();
	if (!scratch || !cpu)
		return 0;
	key = arguments_of(ctx, scratch);
	run = bpf_map_lookup_elem(&open_runs, &key);
	if (!run || run->frame.func != traced_func)
		return 0;
	run->frame.exit_mono_ns = bpf_ktime_get_ns();
	run->frame.ret = run_argument(ctx, 1);
	send_frame(cpu, &run->frame);
	if (trace_xdp && run->run_kind != RUN_SKB)
		leave_buffer(run, run_argument(ctx, 0), run->frame.ret);
	if (!bpf_map_delete_elem(&open_runs, &key))
		__sync_fetch_and_add(&open_run_count, -1);
	return 0;
}

#endif
