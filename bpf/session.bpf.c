//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * session.bpf.c - the backend `session`: one program sees entry and return of
 * every function (BPF_TRACE_KPROBE_SESSION, Linux 6.10,
 * https://git.kernel.org/torvalds/c/535a3692ba72). An entry that returns 1
 * suppresses its return, so an untracked skb never pays for it.
 */
#define DIRECT
#include "frame.h"

/*
 * Both kfuncs took no argument when they came; since Linux 7.0 they take the
 * context. User space binds them by name only (bpf.Load), and the older kernels
 * ignore the argument.
 */
extern _Bool bpf_session_is_return(void *ctx) __ksym;
extern u64 *bpf_session_cookie(void *ctx) __ksym;

static __always_inline int session(struct pt_regs *ctx, u64 skb, enum entry_mode mode)
{
	u64 *cookie;
	u64 value;

	if (bpf_session_is_return(ctx)) {
		cookie = bpf_session_cookie(ctx);
		leave_frame(*cookie, PT_REGS_RC(ctx));
		return 0;
	}
	value = enter_frame(ctx, skb, mode);
	if (!value)
		return 1;
	cookie = bpf_session_cookie(ctx);
	*cookie = value;
	return 0;
}

#define PROBE(name, section, skb, mode)                                         \
	SEC("kprobe.session/" section) int name(struct pt_regs *ctx)           \
	{                                                                      \
		return session(ctx, skb, mode);                                \
	}

#include "probes.h"

char _license[] SEC("license") = "Dual BSD/GPL";
