/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * ends.h - the programs that end the tracking of an skb, in both objects.
 *
 * The two tracepoints see most ends. The functions that free without one are
 * probed at their entry; internal/probe names them and attaches those that the
 * running kernel has.
 */
#ifndef OTEL_KPROBE_ENDS_H
#define OTEL_KPROBE_ENDS_H

#include "netfilter.h"
#include "track.h"
#include <bpf/bpf_tracing.h>

SEC("raw_tracepoint/kfree_skb")
int kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
	u32 reason = 0;

	forget_unsampled(ctx->args[0]);
	if (!live)
		return 0;
	if (extras.stack_drops)
		send_drop_stack(ctx, ctx->args[0]);
	if (settings.has_reason)
		reason = ctx->args[2];
	if (settings.has_rules)
		tell_last_walk(ctx->args[0]);
	end_skb(ctx->args[0], END_DROPPED, reason, ctx->args[1]);
	return 0;
}

SEC("raw_tracepoint/consume_skb")
int consume_skb(struct bpf_raw_tracepoint_args *ctx)
{
	forget_unsampled(ctx->args[0]);
	if (live)
		end_skb(ctx->args[0], END_CONSUMED, 0, 0);
	return 0;
}

/* Run by user space (BPF_PROG_TEST_RUN) with the address of an idle skb. */
SEC("raw_tracepoint/evict")
int evict(struct bpf_raw_tracepoint_args *ctx)
{
	return end_skb(ctx->args[0], END_EVICTED, 0, 0);
}

#define END_PROBE(name, section, how)                                          \
	SEC(section) int name(struct pt_regs *ctx)                             \
	{                                                                      \
		forget_unsampled(PT_REGS_PARM1(ctx));                          \
		if (live)                                                      \
			end_skb(PT_REGS_PARM1(ctx), how, 0, 0);                \
		return 0;                                                      \
	}

END_PROBE(end_freed, "kprobe/end_freed", END_FREED)
END_PROBE(end_merged, "kprobe/end_merged", END_MERGED)
END_PROBE(end_deferred, "kprobe/end_deferred", END_DEFERRED)

#endif
