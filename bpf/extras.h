/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * extras.h - what is reported of a tracked skb only when the user asks for it:
 * kernel stacks, callers, members of the skb, bytes of the packet.
 *
 * What is asked for is constant to the verifier, which drops the calls into here
 * of what is not.
 */
#ifndef OTEL_KPROBE_EXTRAS_H
#define OTEL_KPROBE_EXTRAS_H

#include "facts.h"
#include "maps.h"
#include <bpf/bpf_tracing.h>

#define MAX_FIELDS 16
#define MAX_STEPS 6
#define FIELD_MAX_BYTES 16

/*
 * The way to one member: offsets[0] counts from the sk_buff; all but the last of
 * the steps lead to a pointer, which is followed.
 */
struct skb_field {
	u32 offsets[MAX_STEPS];
	u32 steps;
	u16 bytes; /* of the member, at most FIELD_MAX_BYTES */
	u16 at;    /* where it goes in the data of a fields_record */
};

struct extra_settings {
	u8 stack_drops;    /* report the kernel stack of each drop */
	u8 stack_frames;   /* report the kernel stack of each frame's entry */
	u8 caller;         /* report the return address of each frame */
	u8 field_count;    /* at most MAX_FIELDS */
	u16 field_bytes;   /* of the data of a fields_record, a multiple of 8 */
	u16 payload_bytes; /* report so many bytes of each packet; at most EXTRA_BYTES */
	struct skb_field fields[MAX_FIELDS];
};

const volatile struct extra_settings extras = {};

/* Where a fields_record is made: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct fields_record);
} field_rooms SEC(".maps");

/*
 * Sends the kernel stack; ordinal 0: of a drop. bpf_get_stack clears what it
 * does not fill.
 */
static __noinline void send_stack(void *ctx, const struct tracked_skb *state, u64 skb, u32 ordinal, u64 now)
{
	struct cpu_state *cpu = this_cpu_state();
	struct stack_record *stack;
	long bytes;

	if (!cpu || !state)
		return;
	stack = bpf_ringbuf_reserve(&ring, sizeof(*stack), 0);
	if (!stack) {
		COUNT(cpu->ring_full_extras);
		return;
	}
	bytes = bpf_get_stack(ctx, stack->addresses, sizeof(stack->addresses), 0);
	if (bytes <= 0) {
		bpf_ringbuf_discard(stack, BPF_RB_NO_WAKEUP);
		return;
	}
	stack->kind = RECORD_STACK;
	stack->flags = ordinal ? STACK_FRAME : STACK_DROP;
	stack->cpu = bpf_get_smp_processor_id();
	stack->tid = bpf_get_current_pid_tgid();
	stack->journey = state->journey;
	stack->skb = skb;
	stack->at_mono_ns = now;
	stack->ordinal = ordinal;
	stack->depth = bytes / sizeof(u64);
	bpf_ringbuf_submit(stack, record_flag(cpu));
}

/* The stack of a drop, while the skb is still tracked. */
static __always_inline void send_drop_stack(void *ctx, u64 skb)
{
	struct tracked_skb *state = bpf_map_lookup_elem(&tracked, &skb);

	if (state)
		send_stack(ctx, state, skb, 0, bpf_ktime_get_ns());
}

/* Sends where the function will return to, which stands on top of the stack. */
static __noinline void send_caller(struct pt_regs *ctx, const struct tracked_skb *state, u64 skb, u64 now)
{
	struct cpu_state *cpu = this_cpu_state();
	struct caller_record *caller;

	if (!cpu || !state)
		return;
	caller = bpf_ringbuf_reserve(&ring, sizeof(*caller), 0);
	if (!caller) {
		COUNT(cpu->ring_full_extras);
		return;
	}
	caller->kind = RECORD_STACK;
	caller->flags = STACK_CALLER;
	caller->cpu = bpf_get_smp_processor_id();
	caller->tid = bpf_get_current_pid_tgid();
	caller->journey = state->journey;
	caller->skb = skb;
	caller->at_mono_ns = now;
	caller->ordinal = state->entered;
	caller->depth = 1;
	caller->address = 0;
	bpf_probe_read_kernel(&caller->address, sizeof(caller->address), (void *)PT_REGS_SP(ctx));
	bpf_ringbuf_submit(caller, record_flag(cpu));
}

/* Reads field number i of the skb into record, and says so in its bits of what is valid. */
static __always_inline void read_field(struct fields_record *record, u64 skb, u32 i)
{
	const volatile struct skb_field *field = &extras.fields[i];
	u32 at = field->at, bytes = field->bytes, step;

	for (step = 0; step < MAX_STEPS - 1 && step + 1 < field->steps; step++) {
		u64 next = 0;

		if (bpf_probe_read_kernel(&next, sizeof(next), (void *)(skb + field->offsets[step])) || !next)
			return;
		skb = next;
	}
	if (at > EXTRA_BYTES - FIELD_MAX_BYTES || bytes > FIELD_MAX_BYTES)
		return;
	if (!bpf_probe_read_kernel(record->data + at, bytes, (void *)(skb + field->offsets[step])))
		record->valid |= 1 << i;
}

/* A number that tells the values of two records apart; never 0. */
static __always_inline u64 hash_fields(const struct fields_record *record)
{
	const u64 *words = (const u64 *)record->data;
	u64 hash = record->valid;
	u32 i;

	for (i = 0; i < EXTRA_BYTES / sizeof(u64) && i < extras.field_bytes / sizeof(u64); i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 29;
	}
	return hash | 1;
}

static __always_inline void head_fields(struct fields_record *record, const struct tracked_skb *state, u64 skb,
					u64 now)
{
	record->kind = RECORD_FIELDS;
	record->flags = 0;
	record->cpu = bpf_get_smp_processor_id();
	record->tid = bpf_get_current_pid_tgid();
	record->journey = state->journey;
	record->skb = skb;
	record->at_mono_ns = now;
	record->ordinal = state->entered;
	record->valid = 0;
	record->bytes = 0;
}

/* Keeps clang from deriving a value anew behind a check of it, where the verifier knows no bound. */
#define AS_IT_IS(value) asm volatile("" : "+r"(value))

/* Sends the record with so many bytes of data. */
static __always_inline void send_fields(struct cpu_state *cpu, struct fields_record *record, u64 bytes)
{
	AS_IT_IS(bytes);
	if (bytes > EXTRA_BYTES)
		return;
	record->bytes = bytes;
	if (bpf_ringbuf_output(&ring, record, FIELDS_HEAD_BYTES + bytes, record_flag(cpu)))
		COUNT(cpu->ring_full_extras);
}

/* Sends the members that were asked for when one of them changed since the skb's last frame. */
static __noinline void report_fields(struct tracked_skb *state, u64 skb, u64 now)
{
	struct cpu_state *cpu = this_cpu_state();
	struct fields_record *record;
	u32 zero = 0, i;
	u64 hash;

	record = bpf_map_lookup_elem(&field_rooms, &zero);
	if (!cpu || !state || !record)
		return;
	head_fields(record, state, skb, now);
	__builtin_memset(record->data, 0, sizeof(record->data));
	for (i = 0; i < MAX_FIELDS && i < extras.field_count; i++)
		read_field(record, skb, i);
	hash = hash_fields(record);
	if (hash == state->fields)
		return;
	state->fields = hash;
	send_fields(cpu, record, extras.field_bytes);
}

/* Sends the packet's first linear bytes from its network header on. */
static __noinline void send_payload(const struct tracked_skb *state, const struct skb_view *view, u64 skb)
{
	struct cpu_state *cpu = this_cpu_state();
	struct fields_record *record;
	u64 start, bytes;
	u32 zero = 0;

	record = bpf_map_lookup_elem(&field_rooms, &zero);
	if (!cpu || !state || !view || !record)
		return;
	start = network_header_of(view);
	if (!start)
		return;
	bytes = bytes_from(start, view->data, view->len - view->data_len);
	if (bytes > extras.payload_bytes)
		bytes = extras.payload_bytes;
	head_fields(record, state, skb, bpf_ktime_get_ns());
	record->flags = FIELDS_PAYLOAD;
	AS_IT_IS(bytes);
	if (!bytes || bytes > EXTRA_BYTES)
		return;
	if (!bpf_probe_read_kernel(record->data, bytes, (void *)start))
		send_fields(cpu, record, bytes);
}

/* What was asked for of a frame that has just been entered. */
static __always_inline void report_extras(struct pt_regs *ctx, struct tracked_skb *state, u64 skb, u64 now)
{
	if (extras.caller)
		send_caller(ctx, state, skb, now);
	if (extras.stack_frames)
		send_stack(ctx, state, skb, state->entered, now);
	if (extras.field_count)
		report_fields(state, skb, now);
}

#endif
