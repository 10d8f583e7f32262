/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * notes.h - which frame is the innermost open one on a kernel stack, for the
 * functions without an skb that are probed on demand (callees.h).
 *
 * Each frame is noted under its stack from its entry to its return, and then
 * gives the place back to the frame that had it before. Returns may be missed,
 * so a note is only believed while its frame is open, of the current thread and
 * not deeper in the stack than the function that asks.
 */
#ifndef OTEL_KPROBE_NOTES_H
#define OTEL_KPROBE_NOTES_H

#include "maps.h"
#include "read.h"

#define MAX_NOTES 16384
/* How many frames are passed over whose returns were missed. */
#define CALLER_TRIES 4
/* THREAD_SIZE on amd64 without KASAN. */
#define KERNEL_STACK_BYTES 16384

struct task_struct___stack {
	void *stack;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NOTES);
	__type(key, u64);   /* kernel stack, see stack_of */
	__type(value, u64); /* cookie of the innermost frame that is open on it */
} notes SEC(".maps");

/* Entries of notes; zero lets a function without an skb leave without a look-up. */
s64 noted = 0;

/*
 * Names the stack that a stack pointer is on: the current thread's by its
 * address, any other (of interrupts) by the CPU that it belongs to. The latter
 * are only page-aligned, so that the pointer alone would not tell.
 */
static __always_inline u64 stack_of(u64 stack_pointer)
{
	u64 base = read_u64(bpf_get_current_task() +
			    bpf_core_field_offset(struct task_struct___stack, stack));

	if (stack_pointer - base < KERNEL_STACK_BYTES)
		return base;
	return bpf_get_smp_processor_id();
}

static __always_inline u64 cookie_of(const struct slot *slot, u32 index)
{
	return (u64)(slot->generation | 1u << 31) << 32 | index;
}

/* The slot of an open frame, NULL when its cookie is no longer valid. */
static __always_inline struct slot *open_slot(u64 cookie)
{
	u32 index = cookie;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);

	if (!slot || !slot->busy || cookie_of(slot, index) != cookie)
		return 0;
	return slot;
}

/*
 * The cookie of the frame that a function which is entered at stack_pointer
 * runs in, from the noted one outwards; 0 when there is none. Equal pointers
 * are those of a tail call.
 */
static __always_inline u64 caller_of(u64 cookie, u64 stack_pointer, u64 now)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct slot *slot;
	int i;

#pragma unroll
	for (i = 0; i < CALLER_TRIES; i++) {
		slot = open_slot(cookie);
		if (!slot || slot->frame.tid != tid || now - slot->frame.enter_mono_ns > SLOT_STALE_NS)
			return 0;
		if (slot->frame.stack >= stack_pointer)
			return cookie;
		cookie = slot->outer;
	}
	return 0;
}

/*
 * The record of a frame in the frame of this cookie is lost. Where it had no skb
 * it is missing in no count of frames entered, so its caller says so.
 */
static __noinline int callee_lost(u64 cookie)
{
	struct slot *caller = open_slot(cookie);

	if (caller)
		caller->frame.flags |= FRAME_CALLEES_LOST;
	return 0;
}

/* Notes a frame that has just been entered. */
static __noinline int note_frame(u64 cookie)
{
	struct slot *slot = open_slot(cookie);
	u64 stack, *note;

	if (!slot)
		return 0;
	stack = stack_of(slot->frame.stack);
	note = bpf_map_lookup_elem(&notes, &stack);
	if (note) {
		slot->outer = caller_of(*note, slot->frame.stack, slot->frame.enter_mono_ns);
		*note = cookie;
		return 1;
	}
	slot->outer = 0;
	if (bpf_map_update_elem(&notes, &stack, &cookie, BPF_ANY)) {
		slot->frame.flags |= FRAME_CALLEES_LOST;
		return 0;
	}
	__sync_fetch_and_add(&noted, 1);
	return 1;
}

/*
 * A noted frame returns. What is noted instead of it has not returned by now,
 * so its return was missed.
 */
static __noinline int forget_frame(u64 cookie)
{
	struct slot *slot = open_slot(cookie);
	u64 stack, *note;

	if (!slot)
		return 0;
	stack = stack_of(slot->frame.stack);
	note = bpf_map_lookup_elem(&notes, &stack);
	if (!note)
		return 0;
	if (*note != cookie)
		slot->frame.flags |= FRAME_CALLEES_LOST;
	if (slot->outer)
		*note = slot->outer;
	else if (!bpf_map_delete_elem(&notes, &stack))
		__sync_fetch_and_add(&noted, -1);
	return 0;
}

#endif
