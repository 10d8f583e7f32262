//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * classic.bpf.c - the backends `multi` (kprobe.multi + kretprobe.multi, Linux
 * 5.18, https://git.kernel.org/torvalds/c/0dcac2725406) and `kprobe` (a kprobe
 * and a kretprobe for every function): one program sees the entries, another
 * the returns, and a map joins them.
 */
#include "callees.h"
#include "frame.h"
#include "traced.h"

#define MAX_OPEN_FRAMES 16384
#define MAX_TAIL_CALLS 16

/*
 * The cookies of the frames that were entered at one stack pointer. There is
 * more than one only when a function jumps to another as its last act: both
 * then return at once, the inner one first. From ip_local_out to
 * ip_finish_output2 five of them do so.
 */
struct open_frames {
	u32 count;
	u32 pad;
	u64 cookies[MAX_TAIL_CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_OPEN_FRAMES);
	__type(key, u64); /* stack pointer at entry */
	__type(value, struct open_frames);
} open_frames SEC(".maps");

/* Frames that are open; zero lets every return leave without a look-up. */
s64 open_count = 0;

static __always_inline void push_cookie(u64 stack, u64 cookie)
{
	struct open_frames *frames = bpf_map_lookup_elem(&open_frames, &stack);
	struct open_frames first = {};
	struct cpu_state *cpu;

	if (frames) {
		/*
		 * A full one holds frames whose returns were missed: each is
		 * counted when its slot is taken back.
		 */
		if (frames->count >= MAX_TAIL_CALLS)
			frames->count = 0;
		frames->cookies[frames->count & (MAX_TAIL_CALLS - 1)] = cookie;
		frames->count++;
		return;
	}
	first.count = 1;
	first.cookies[0] = cookie;
	if (!bpf_map_update_elem(&open_frames, &stack, &first, BPF_ANY)) {
		__sync_fetch_and_add(&open_count, 1);
		return;
	}
	cpu = this_cpu_state();
	if (cpu)
		COUNT(cpu->slots_full);
}

/* The innermost cookie of this stack pointer; 0 when there is none. */
static __always_inline u64 pop_cookie(u64 stack)
{
	struct open_frames *frames = bpf_map_lookup_elem(&open_frames, &stack);
	u64 cookie;

	if (!frames || !frames->count)
		return 0;
	frames->count--;
	cookie = frames->cookies[frames->count & (MAX_TAIL_CALLS - 1)];
	if (!frames->count && !bpf_map_delete_elem(&open_frames, &stack))
		__sync_fetch_and_add(&open_count, -1);
	return cookie;
}

#define PROBE(name, section, skb, mode)                                        \
	SEC("kprobe/" section) int name(struct pt_regs *ctx)                   \
	{                                                                      \
		u64 cookie = enter_frame(ctx, skb, mode);                      \
                                                                               \
		if (cookie)                                                    \
			push_cookie(PT_REGS_SP(ctx), cookie);                  \
		return 0;                                                      \
	}

#include "probes.h"

/* The entry of a function without an skb. */
SEC("kprobe/callee")
int callee(struct pt_regs *ctx)
{
	u64 cookie = noted ? begin_callee(ctx) : 0;

	if (cookie)
		push_cookie(PT_REGS_SP(ctx), cookie);
	return 0;
}

/* The return address has been taken from the stack by now. */
SEC("kretprobe/leave")
int leave(struct pt_regs *ctx)
{
	u64 cookie;

	if (!open_count)
		return 0;
	cookie = pop_cookie(PT_REGS_SP(ctx) - sizeof(u64));
	if (cookie)
		leave_frame(cookie, PT_REGS_RC(ctx));
	return 0;
}

/* Only used through pointers: named here so that bpf2go finds them in the BTF. */
const struct frame_record *frame_record_type __attribute__((unused));
const struct facts_record *facts_record_type __attribute__((unused));
const struct clone_record *clone_record_type __attribute__((unused));
const struct end_record *end_record_type __attribute__((unused));
const struct stack_record *stack_record_type __attribute__((unused));
const struct caller_record *caller_record_type __attribute__((unused));
const struct fields_record *fields_record_type __attribute__((unused));
const struct link_record *link_record_type __attribute__((unused));
const struct app_record *app_record_type __attribute__((unused));
const struct payload_record *payload_record_type __attribute__((unused));
const struct owner_record *owner_record_type __attribute__((unused));
const struct conntrack_record *conntrack_record_type __attribute__((unused));
const struct rule_record *rule_record_type __attribute__((unused));

char _license[] SEC("license") = "Dual BSD/GPL";
