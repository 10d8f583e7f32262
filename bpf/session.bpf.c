//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * session.bpf.c - the backend `session`: one program sees entry and return of
 * all functions (BPF_TRACE_KPROBE_SESSION, Linux 6.10,
 * https://git.kernel.org/torvalds/c/535a3692ba72). An entry that returns 1
 * suppresses its return, so an untracked skb never pays for it.
 */
#define DIRECT
#include "callees.h"
#include "ends.h"
#include "frame.h"
#include "owner_programs.h"
#include "traced.h"

/*
 * Both kfuncs took no argument when they came; since Linux 7.0 they take the
 * context. User space binds them by name only (bpf.Load), and the older kernels
 * ignore the argument.
 */
extern _Bool bpf_session_is_return(void *ctx) __ksym;
extern u64 *bpf_session_cookie(void *ctx) __ksym;

#define MODE_BITS 14
#define DISPLACEMENT_BITS 10

/*
 * A perfect hash of the functions' addresses (hash and displace,
 * https://cmph.sourceforge.net/papers/esa09.pdf): user space chooses the
 * multiplier and the displacements so that no two probed functions share an
 * entry of modes, except those that want the same there.
 */
u64 modes_multiplier = 0;
u16 modes_displacements[1 << DISPLACEMENT_BITS] = {};
u16 modes[1 << MODE_BITS] = {};

static __always_inline u32 mode_of(u64 func)
{
	u64 hash = func * modes_multiplier;
	u64 index = hash >> 40 ^ modes_displacements[hash >> (64 - DISPLACEMENT_BITS)];

	return modes[index & ((1 << MODE_BITS) - 1)];
}

/* Keeps clang from merging loads into one at a computed offset of the context,
 * which the verifier refuses.
 */
#define LOADED(value) ({ u64 loaded = (value); asm volatile("" : "+r"(loaded)); loaded; })

static __always_inline u64 argument(struct pt_regs *ctx, u32 number)
{
	switch (number) {
	case 0:
		return LOADED(PT_REGS_PARM1(ctx));
	case 1:
		return LOADED(PT_REGS_PARM2(ctx));
	case 2:
		return LOADED(PT_REGS_PARM3(ctx));
	case 3:
		return LOADED(PT_REGS_PARM4(ctx));
	case 4:
		return LOADED(PT_REGS_PARM5(ctx));
	default:
		return LOADED(SIXTH_PARM(ctx));
	}
}

/* The skb that the function is entered with. */
static __always_inline u64 skb_of(struct pt_regs *ctx, u32 mode)
{
	u64 value = LOADED(PT_REGS_PARM1(ctx));

	if (mode & (MODE_ARGUMENT | MODE_INDIRECT)) {
		value = argument(ctx, mode & MODE_ARGUMENT);
		if (mode & MODE_INDIRECT)
			value = read_u64(value);
	}
	return value;
}

SEC("kprobe.session/probe")
int probe(struct pt_regs *ctx)
{
	u64 skb, value, *cookie;
	u32 mode;

	if (bpf_session_is_return(ctx)) {
		cookie = bpf_session_cookie(ctx);
		leave_frame(*cookie, PT_REGS_RC(ctx));
		return 0;
	}
	mode = mode_of(bpf_get_func_ip(ctx));
	skb = skb_of(ctx, mode);
	value = enter_frame(ctx, skb, mode);
	if (mode & MODE_END)
		forget_unsampled(skb);
	if (mode & MODE_END && live)
		end_skb(skb, (mode & MODE_END) >> MODE_END_SHIFT, 0, 0);
	if (!value)
		return 1;
	cookie = bpf_session_cookie(ctx);
	*cookie = value;
	return 0;
}

/* Entry and return of the functions without an skb. */
SEC("kprobe.session/callee")
int callee(struct pt_regs *ctx)
{
	u64 value, *cookie;

	if (bpf_session_is_return(ctx)) {
		cookie = bpf_session_cookie(ctx);
		leave_frame(*cookie, PT_REGS_RC(ctx));
		return 0;
	}
	value = noted ? begin_callee(ctx) : 0;
	if (!value)
		return 1;
	cookie = bpf_session_cookie(ctx);
	*cookie = value;
	return 0;
}

/* Only used through pointers: named here so that bpf2go finds them in the BTF. */
const enum function_mode *function_mode_type __attribute__((unused));
const enum kin *kin_type __attribute__((unused));

char _license[] SEC("license") = "Dual BSD/GPL";
