/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * track.h - which skbs are followed: how a journey starts, which skbs join it,
 * how an skb ends.
 *
 * The map tracked is keyed by the skb's address, so an entry must go before
 * the address can be used again: every way in which the kernel lets go of an
 * skb ends here (docs/kernels.md lists them).
 */
#ifndef OTEL_KPROBE_TRACK_H
#define OTEL_KPROBE_TRACK_H

#include "extras.h"
#include "facts.h"
#include "maps.h"
#include "match.h"
#include "rules.h"
#include "sample.h"

#define CPU_SHIFT 48
/* A packet that was left out on its way may be begun later on it. */
#define LATE_AFTER_LEFT_OUT_NS 1000000000ULL
#define PAGE_SIZE_BYTES 4096
#define LOWEST_KERNEL_ADDRESS 0x8000000000000000ULL
#define HIGHEST_POINTER (~0ULL - PAGE_SIZE_BYTES) /* above: ERR_PTR */

#define RUN_JOURNEY (1ULL << (CPU_SHIFT - 1))

/* Unique within one run, never 0; equal to no other CPU's. */
static __always_inline u64 new_journey(struct cpu_state *cpu)
{
	return ((u64)(bpf_get_smp_processor_id() + 1) << CPU_SHIFT) | ++cpu->next_journey;
}

/*
 * The same for one that begins with the run of a traced program. A count of its own: it
 * may interrupt a probe that is counting.
 */
static __always_inline u64 new_run_journey(struct cpu_state *cpu)
{
	return ((u64)(bpf_get_smp_processor_id() + 1) << CPU_SHIFT) | RUN_JOURNEY |
	       ++cpu->next_run_journey;
}

/* Reads and sends facts when something of them differs from what was sent. */
static __always_inline void refresh_facts(struct cpu_state *cpu, struct tracked_skb *state,
					  const struct skb_view *view, u64 skb, u32 tid)
{
	u64 fingerprint = fingerprint_of(view);
	struct facts_record *facts;

	if (state->dev == view->dev && state->mark == view->mark &&
	    state->tid == tid && state->fingerprint == fingerprint)
		return;
	state->dev = view->dev;
	state->mark = view->mark;
	state->tid = tid;
	state->fingerprint = fingerprint;
	state->facts++;
	facts = reserve_facts(cpu);
	if (!facts)
		return;
	read_facts(facts, view, skb);
	tell_randomness(facts, state->randomness);
	facts->journey = state->journey;
	facts->number = state->facts;
	bpf_ringbuf_submit(facts, record_flag(cpu));
}

/* Is this packet one of our exporter's own? Both directions count. */
static __noinline int is_own(const struct facts_record *facts)
{
	struct own_flow flow = {};

	__builtin_memcpy(flow.local, facts->source, 16);
	__builtin_memcpy(flow.remote, facts->destination, 16);
	flow.local_port = facts->source_port;
	flow.remote_port = facts->destination_port;
	if (bpf_map_lookup_elem(&own_flows, &flow))
		return 1;
	__builtin_memcpy(flow.local, facts->destination, 16);
	__builtin_memcpy(flow.remote, facts->source, 16);
	flow.local_port = facts->destination_port;
	flow.remote_port = facts->source_port;
	return bpf_map_lookup_elem(&own_flows, &flow) != 0;
}

/*
 * Begins to follow skb, for a run of a traced program when run is set; NULL when it is our
 * own, is not sampled or there is no room for it.
 */
static __noinline struct tracked_skb *start_journey(u64 skb, u32 run)
{
	struct cpu_state *cpu = this_cpu_state();
	struct tracked_skb state = {};
	struct facts_record *facts;
	struct skb_view view;

	if (!cpu)
		return 0;
	if (settings.sample_threshold) {
		view_skb(&view, skb);
		state.randomness = randomness_of(&view);
		if (state.randomness < settings.sample_threshold) {
			leave_unsampled(cpu, skb, state.randomness);
			return 0;
		}
	}
	if (reader_is_behind()) {
		COUNT(cpu->left_out_starts);
		left_out_mono_ns = bpf_ktime_get_ns();
		return 0;
	}
	facts = reserve_facts(cpu);
	if (!facts)
		return 0;
	view_skb(&view, skb);
	read_facts(facts, &view, skb);
	tell_randomness(facts, state.randomness);
	if (is_own(facts)) {
		bpf_ringbuf_discard(facts, BPF_RB_NO_WAKEUP);
		return 0;
	}
	state.journey = run ? new_run_journey(cpu) : new_journey(cpu);
	state.dev = view.dev;
	state.mark = view.mark;
	state.tid = facts->tid;
	state.fingerprint = fingerprint_of(&view);
	state.facts = 1;
	if (bpf_map_update_elem(&tracked, &skb, &state, BPF_NOEXIST)) {
		bpf_ringbuf_discard(facts, BPF_RB_NO_WAKEUP);
		COUNT(cpu->tracked_full);
		return 0;
	}
	__sync_fetch_and_add(&live, 1);
	facts->journey = state.journey;
	facts->number = 1;
	facts->flags |= FACTS_START;
	if (facts->at_mono_ns - left_out_mono_ns < LATE_AFTER_LEFT_OUT_NS)
		facts->flags |= FACTS_LATE;
	bpf_ringbuf_submit(facts, record_flag(cpu));
	if (extras.payload_bytes)
		send_payload(&state, &view, skb);
	return bpf_map_lookup_elem(&tracked, &skb);
}

/* Begins to follow an skb; false when it is followed already, or there is no room for it. */
static __always_inline int follow_skb(struct cpu_state *cpu, u64 skb, const struct tracked_skb *state)
{
	if (bpf_map_update_elem(&tracked, &skb, state, BPF_NOEXIST)) {
		if (!bpf_map_lookup_elem(&tracked, &skb))
			COUNT(cpu->tracked_full);
		return 0;
	}
	__sync_fetch_and_add(&live, 1);
	return 1;
}

/* Says that an skb, or the buffer of one, belongs to the journey of parent. */
static __always_inline void send_clone(struct cpu_state *cpu, u64 journey, u64 skb, u64 parent)
{
	struct clone_record *clone = bpf_ringbuf_reserve(&ring, sizeof(*clone), 0);

	if (!clone) {
		COUNT(cpu->ring_full_facts);
		return;
	}
	clone->kind = RECORD_CLONE;
	clone->flags = 0;
	clone->cpu = bpf_get_smp_processor_id();
	clone->tid = bpf_get_current_pid_tgid();
	clone->journey = journey;
	clone->skb = skb;
	clone->parent = parent;
	clone->at_mono_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(clone, record_flag(cpu));
}

/* An skb that is the same packet as parent, an skb or the buffer of one, joins its journey. */
static __always_inline void join_journey(struct cpu_state *cpu, u64 journey, u64 skb, u64 parent)
{
	struct tracked_skb *known = bpf_map_lookup_elem(&tracked, &parent);
	struct tracked_skb state = {};

	state.journey = journey;
	if (known) { /* it is of the same socket and connection, and begins with no record of them */
		state.sock = known->sock;
		state.nfct = known->nfct;
		state.nfct_status = known->nfct_status;
		state.randomness = known->randomness;
		state.head = known->head;
		state.payload_seen = known->payload_seen;
	}
	if (follow_skb(cpu, skb, &state))
		send_clone(cpu, journey, skb, parent);
}

/* Notes the end of an skb: those that are still chained to it go right after it. */
static __always_inline void note_end(struct cpu_state *cpu, u64 journey, u32 how, u32 reason, u64 location)
{
	cpu->ended_journey = journey;
	cpu->ended_how = how;
	cpu->ended_reason = reason;
	cpu->ended_location = location;
}

/*
 * Follows skb no longer, and says how it ended. One that is chained to another is
 * not freed without a tracepoint: skb_segment_list() cuts it off and releases the
 * state of its head only. What ends with the skb that it is chained to ends as that;
 * before 6.2 the kernel calls it a drop without a reason
 * (https://git.kernel.org/torvalds/c/511a3eda2f8d).
 */
static __noinline int end_skb(u64 skb, u32 how, u32 reason, u64 location)
{
	struct cpu_state *cpu = this_cpu_state();
	struct tracked_skb *state;
	struct end_record *end;
	u64 journey, head;
	u32 entered;

	if (!live || !cpu)
		return 0;
	state = bpf_map_lookup_elem(&tracked, &skb);
	if (!state)
		return 0;
	journey = state->journey;
	entered = state->entered;
	head = state->head;
	if (head && how == END_FREED) {
		state->head = 0;
		return 0;
	}
	if (bpf_map_delete_elem(&tracked, &skb))
		return 0;
	if (!head) {
		note_end(cpu, journey, how, reason, location);
	} else if (how != END_EVICTED && cpu->ended_journey == head) {
		how = cpu->ended_how;
		reason = cpu->ended_reason;
		location = cpu->ended_location;
	}
	__sync_fetch_and_add(&live, -1);
	end = bpf_ringbuf_reserve(&ring, sizeof(*end), 0);
	if (!end) {
		COUNT(cpu->ring_full_ends);
		return 0;
	}
	end->kind = RECORD_END;
	end->how = how;
	end->cpu = bpf_get_smp_processor_id();
	end->tid = bpf_get_current_pid_tgid();
	end->journey = journey;
	end->skb = skb;
	end->at_mono_ns = bpf_ktime_get_ns();
	end->location = location;
	end->reason = reason;
	end->entered = entered;
	bpf_ringbuf_submit(end, record_flag(cpu));
	return 1;
}

#endif
