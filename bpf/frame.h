/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * frame.h - one call of one function on one tracked skb: from its entry to the
 * one record that is sent at its return.
 *
 * Between the two, the frame lives in a slot. The entry gives out a cookie
 * (generation and index of the slot); whatever carries it to the return, the
 * session's cookie or the map open_frames, the return needs nothing of the
 * skb, which may be gone by then.
 */
#ifndef OTEL_KPROBE_FRAME_H
#define OTEL_KPROBE_FRAME_H

#include "buffers.h"
#include "conntrack.h"
#include "kin.h"
#include "modes.h"
#include "notes.h"
#include "owner_send.h"
#include "payloads.h"
#include <bpf/bpf_tracing.h>

/* PT_REGS_PARM6 of bpf_tracing.h came with libbpf 1.2. */
#define SIXTH_PARM(ctx) ((ctx)->r9)

#define SLOT_TRIES 4

/*
 * The address of the probed function. Without the helper (5.10) a kprobe's
 * instruction pointer stands one byte behind its function's first.
 */
static __always_inline u64 func_of(struct pt_regs *ctx)
{
	if (settings.has_func_ip)
		return bpf_get_func_ip(ctx);
	return PT_REGS_IP(ctx) - 1;
}

/* Is a function shed? Then its call is counted. */
__noinline int is_shed(u64 func)
{
	u64 *frames = bpf_map_lookup_elem(&shed_functions, &func);

	if (!frames)
		return 0;
	++*frames;
	return 1;
}

/* Is this call not to be recorded, since the function is shed? */
static __always_inline int sheds(struct pt_regs *ctx)
{
	return can_shed && shed_count ? is_shed(func_of(ctx)) : 0;
}

static __always_inline void fill_frame(struct pt_regs *ctx, struct frame_record *frame,
				       const struct tracked_skb *state, const struct skb_view *view,
				       u64 skb, u32 tid, u64 now)
{
	frame->kind = RECORD_FRAME;
	/* 0 or 1, as shed_count is; without a branch, whose both ways the verifier would follow. */
	frame->flags = can_shed ? (-shed_count >> 31) * FRAME_SHED : 0;
	frame->cpu = bpf_get_smp_processor_id();
	frame->tid = tid;
	frame->journey = state->journey;
	frame->skb = skb;
	frame->func = func_of(ctx);
	frame->stack = PT_REGS_SP(ctx);
	frame->enter_mono_ns = now;
	frame->len = view->len;
	frame->mark = view->mark;
	frame->facts = state->facts;
	frame->ordinal = state->entered;
}

/* A free slot of this CPU, or NULL. Nothing else runs probes on it meanwhile. */
static __always_inline struct slot *take_slot(struct cpu_state *cpu, u64 now, u32 *index)
{
	u32 first = bpf_get_smp_processor_id() * SLOTS_PER_CPU;
	struct slot *slot;
	int i;

#pragma unroll
	for (i = 0; i < SLOT_TRIES; i++) {
		*index = first + (cpu->next_slot++ & (SLOTS_PER_CPU - 1));
		slot = bpf_map_lookup_elem(&slots, index);
		if (!slot)
			return 0;
		if (!slot->busy)
			return slot;
		if (now - slot->frame.enter_mono_ns > SLOT_STALE_NS) {
			COUNT(cpu->returns_lost);
			return slot;
		}
	}
	return 0;
}

/* False when there was no room for it. */
static __always_inline int send_frame(struct cpu_state *cpu, const struct frame_record *frame)
{
	struct frame_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		COUNT(cpu->ring_full_frames);
		return 0;
	}
	*record = *frame;
	COUNT(cpu->submitted_frames);
	bpf_ringbuf_submit(record, record_flag(cpu));
	return 1;
}

/* Sends the frame at its entry, for --entry-only. */
static __always_inline void send_entry(struct pt_regs *ctx, struct cpu_state *cpu,
				       struct tracked_skb *state, const struct skb_view *view, u64 skb,
				       u32 tid, u64 now)
{
	struct frame_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		COUNT(cpu->ring_full_frames);
		return;
	}
	fill_frame(ctx, record, state, view, skb, tid, now);
	record->flags |= FRAME_ENTRY_ONLY;
	record->exit_mono_ns = now;
	record->ret = 0;
	COUNT(cpu->submitted_frames);
	bpf_ringbuf_submit(record, record_flag(cpu));
}

/*
 * One more frame on a tracked skb. Returns the cookie that its return must
 * bring to leave_frame, or 0 when there is nothing to do at the return. Not
 * inlined: what it needs of stack and registers would burden the way out that
 * every packet takes which nobody follows.
 */
static __noinline u64 begin_frame(struct pt_regs *ctx, struct tracked_skb *state, u64 skb, u32 mode)
{
	struct cpu_state *cpu = this_cpu_state();
	struct skb_view view;
	struct slot *slot;
	u32 index, tid;
	u64 now;

	if (!cpu || !state)
		return 0;
	if (trace_xdp)
		note_last_skb(skb);
	view_skb(&view, skb);
	tid = bpf_get_current_pid_tgid();
	refresh_facts(cpu, state, &view, skb, tid);
	if (refresh_owner(state, skb, sock_of(ctx, mode, view.sock)))
		tell_sender(state->journey, skb, state->sock, network_header_of(&view), view.data + view.len);
	refresh_conntrack(state, view.nfct, skb);
	if (settings.correlate && mode & MODE_READS)
		tell_user(state->sock, state->journey, skb, APP_READS, 1);
	if (settings.payload && !(mode & MODE_NO_START) && !state->payload_seen && network_header_of(&view)) {
		state->payload_seen = 1;
		tell_payload(state->journey, skb, state->fingerprint);
	}
	now = bpf_ktime_get_ns();
	state->seen_mono_ns = now;
	/*
	 * What a shed function tells beside its frame has been told by now. An skb's first
	 * frame is never shed, so that each packet has one; nor is one whose return
	 * tells of kin.
	 */
	if (state->entered && !(mode & MODE_KIN) && sheds(ctx))
		return 0;
	state->entered++;
	report_extras(ctx, state, skb, now);
	if (settings.entry_only) {
		send_entry(ctx, cpu, state, &view, skb, tid, now);
		return 0;
	}
	slot = take_slot(cpu, now, &index);
	if (!slot) {
		COUNT(cpu->slots_full);
		return 0;
	}
	slot->generation++;
	slot->busy = 1;
	slot->kin = (mode & MODE_KIN) >> MODE_KIN_SHIFT;
	if (slot->kin >= KIN_DERIVES_FIRST)
		slot->first = PT_REGS_PARM1(ctx);
	fill_frame(ctx, &slot->frame, state, &view, skb, tid, now);
	if (settings.callees)
		note_frame(cookie_of(slot, index));
	return cookie_of(slot, index);
}

/*
 * The entry of a probed function; mode has the flags of enum function_mode.
 * Returns what begin_frame does, 0 when the skb is not followed.
 */
static __always_inline u64 enter_frame(struct pt_regs *ctx, u64 skb, u32 mode)
{
	struct tracked_skb *state = 0;

	if (skb < LOWEST_KERNEL_ADDRESS || skb > HIGHEST_POINTER)
		return 0;
	if (live)
		state = bpf_map_lookup_elem(&tracked, &skb);
	if (trace_xdp && !state && !(mode & MODE_NO_START))
		state = join_buffer(skb);
	if (!state) {
		if (mode & MODE_NO_START || is_unsampled(skb) || !matches(skb) || !wants_owner(ctx, mode, skb))
			return 0;
		state = start_journey(skb, 0);
		if (!state)
			return 0;
	}
	return begin_frame(ctx, state, skb, mode);
}

/* The return of the function whose entry gave this cookie. */
static __always_inline void leave_frame(u64 cookie, u64 ret)
{
	struct cpu_state *cpu = this_cpu_state();
	u32 index = cookie;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);

	if (!slot || !cpu || !slot->busy ||
	    (slot->generation | 1u << 31) != cookie >> 32)
		return;
	slot->frame.exit_mono_ns = bpf_ktime_get_ns();
	slot->frame.ret = ret;
	if (slot->kin)
		meet_kin(cpu, slot, ret);
	if (settings.callees)
		forget_frame(cookie);
	if (!send_frame(cpu, &slot->frame) && settings.callees && slot->frame.flags & FRAME_NO_SKB)
		callee_lost(slot->outer);
	slot->busy = 0;
}

#endif
