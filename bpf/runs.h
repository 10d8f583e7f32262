/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * runs.h - one run of a BPF program of others, from its entry to its return.
 *
 * Trampolines are not kept from interrupting a probe, so an open run has its frame
 * in a map of its own and takes no slot.
 */
#ifndef OTEL_KPROBE_RUNS_H
#define OTEL_KPROBE_RUNS_H

#include "buffers.h"
#include "frame.h"

/* What frames of the traced program have as func: event.ProgramFunc. */
const volatile u64 traced_func = 0;

#define MAX_OPEN_RUNS 4096

/* What a program ran on; frame.skb is its address. */
enum run_kind {
	RUN_SKB = 0,
	RUN_BUFFER = 1,	    /* a buffer without an skb that we know */
	RUN_SKB_BUFFER = 2, /* the buffer of an skb, in a driver: it may go on without that skb */
};

/* One run of a traced program, between its entry and its return. */
struct open_run {
	struct frame_record frame;
	u64 randomness; /* of facts_record */
	u32 facts;
	u8 run_kind;
	u8 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_OPEN_RUNS);
	__type(key, u64); /* address of the run's arguments on the kernel's stack */
	__type(value, struct open_run);
} open_runs SEC(".maps");

/* Entries of open_runs. Zero lets every return leave without a look-up. */
s64 open_run_count = 0;

/* Room of one CPU, for as long as an entry or a return is handled. */
struct run_scratch {
	u64 stack;
	struct open_run run;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct run_scratch);
} run_scratches SEC(".maps");

/*
 * An argument, or behind the last one the return value. A plain load would give a
 * pointer of a kernel type, with which the verifier permits little.
 */
static __always_inline u64 run_argument(u64 *ctx, u32 number)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), ctx + number);
	return value;
}

/* The address of the arguments as a number: Linux 5.10 takes no pointer for a key. */
static __always_inline u64 arguments_of(u64 *ctx, struct run_scratch *scratch)
{
	*(volatile u64 *)&scratch->stack = (u64)ctx;
	return *(volatile u64 *)&scratch->stack;
}

static __always_inline struct run_scratch *this_scratch(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&run_scratches, &zero);
}

/* Keeps scratch->run, all but its begin filled in, until the program returns. */
static __always_inline void open_run(u64 *ctx, struct cpu_state *cpu, struct run_scratch *scratch,
				     u64 now)
{
	struct open_run *run = &scratch->run;
	u64 key = arguments_of(ctx, scratch);

	run->frame.kind = RECORD_FRAME;
	run->frame.flags = 0;
	run->frame.cpu = bpf_get_smp_processor_id();
	run->frame.tid = bpf_get_current_pid_tgid();
	run->frame.func = traced_func;
	run->frame.stack = key;
	run->frame.enter_mono_ns = now;
	run->frame.facts = run->facts;
	if (!bpf_map_update_elem(&open_runs, &key, run, BPF_NOEXIST)) {
		__sync_fetch_and_add(&open_run_count, 1);
		return;
	}
	if (bpf_map_update_elem(&open_runs, &key, run, BPF_EXIST))
		COUNT(cpu->slots_full);
	else
		COUNT(cpu->returns_lost); /* of the run that was there before */
}

/* A run on a tracked skb. */
static __noinline int begin_run(u64 *ctx, struct tracked_skb *state, u64 skb, u32 kind)
{
	struct cpu_state *cpu = this_cpu_state();
	struct run_scratch *scratch = this_scratch();
	struct skb_view view;
	u64 now;

	if (!cpu || !scratch || !state)
		return 0;
	view_skb(&view, skb);
	refresh_facts(cpu, state, &view, skb, bpf_get_current_pid_tgid());
	refresh_owner(state, skb, view.sock);
	now = bpf_ktime_get_ns();
	state->seen_mono_ns = now;
	state->entered++;
	scratch->run.run_kind = kind;
	scratch->run.facts = state->facts;
	scratch->run.randomness = state->randomness;
	scratch->run.frame.journey = state->journey;
	scratch->run.frame.skb = skb;
	scratch->run.frame.ordinal = state->entered;
	scratch->run.frame.len = view.len;
	scratch->run.frame.mark = view.mark;
	open_run(ctx, cpu, scratch, now);
	return 0;
}

#endif
