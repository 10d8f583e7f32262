/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * netfilter.h - the programs that see which rules a tracked skb meets.
 *
 * They run for every packet of the machine that a packet filter looks at, and
 * leave at once while nothing is tracked. internal/probe names their functions;
 * struct nft_pktinfo has the skb as its first member on all kernels.
 */
#ifndef OTEL_KPROBE_NETFILTER_H
#define OTEL_KPROBE_NETFILTER_H

#include "rules.h"
#include <bpf/bpf_tracing.h>

/* A followed skb enters the rules of a hook. */
static __noinline int begin_walk(u64 skb, u64 base, u32 kind, u64 hook_state)
{
	struct tracked_skb *state = bpf_map_lookup_elem(&tracked, &skb);
	struct rule_walk walk = {};

	if (!state)
		return 0;
	walk.journey = state->journey;
	walk.base = base;
	walk.kind = kind;
	if (kind == WALK_XT) {
		walk.family = read_u8(hook_state + bpf_core_field_offset(struct nf_hook_state, pf));
		walk.hook = read_u8(hook_state + bpf_core_field_offset(struct nf_hook_state, hook));
	}
	return bpf_map_update_elem(&rule_walks, &skb, &walk, BPF_ANY);
}

/* The walk of the skb that is being filtered, NULL when it is not followed. */
static __always_inline struct rule_walk *walk_in(u64 skb)
{
	struct tracked_skb *state = bpf_map_lookup_elem(&tracked, &skb);

	return state ? walk_of(state->journey, skb) : 0;
}

/* An expression has decided: code and chain as in struct nft_verdict. */
static __noinline int take_verdict(struct rule_walk *walk, u64 skb, u64 expr, s32 code, u64 chain)
{
	if (!walk)
		return 0;
	walk->unsure = 0;
	if (code == NFT_JUMP || code == NFT_GOTO) {
		walk->chains[walk->count & (MAX_WALK_CHAINS - 1)] = chain;
		walk->count++;
		return 0;
	}
	if (code < 0 || (code & NF_VERDICT_MASK) != NF_DROP)
		return 0;
	return send_rule(walk, skb, RULE_DROPS, expr);
}

/* nft_immediate_eval: what the expression says is the verdict, or goes into a register. */
static __noinline int note_verdict(u64 skb, u64 expr, u64 regs, u64 stack)
{
	struct rule_walk *walk = walk_in(skb);

	if (!walk || read_u8(expr + EXPR_DATA + IMMEDIATE_DREG))
		return 0;
	return take_verdict(walk, skb, expr, read_u32(expr + EXPR_DATA),
			    read_u64(expr + EXPR_DATA + VERDICT_CHAIN));
}

static __noinline int note_reject(u64 skb, u64 expr, u64 regs, u64 stack)
{
	struct rule_walk *walk = walk_in(skb);

	return walk ? send_rule(walk, skb, RULE_DROPS, expr) : 0;
}

/* Does this look-up give a verdict? */
static __always_inline int is_verdict_map(u64 lookup)
{
	if (read_u8(lookup + NF_OFFSET(nft_lookup, dreg, 9)))
		return 0;
	if (bpf_core_field_exists(struct nft_lookup, dreg_set))
		return read_u8(lookup + bpf_core_field_offset(struct nft_lookup, dreg_set));
	return read_u32(read_u64(lookup) + OLD_SET_FLAGS) & SET_IS_MAP;
}

/* An expression whose verdict is known when it returns. */
static __always_inline void await_verdict(struct rule_walk *walk, u64 skb, u64 expr, u64 regs, u64 stack)
{
	struct awaited_verdict *awaited = this_awaited_verdict();

	walk->unsure = expr;
	if (!awaited)
		return;
	awaited->skb = skb;
	awaited->expr = expr;
	awaited->regs = regs;
	awaited->stack = stack;
}

static __noinline int note_lookup(u64 skb, u64 expr, u64 regs, u64 stack)
{
	struct rule_walk *walk = walk_in(skb);

	if (walk && is_verdict_map(expr + EXPR_DATA))
		await_verdict(walk, skb, expr, regs, stack);
	return 0;
}

static __noinline int note_target(u64 skb, u64 expr, u64 regs, u64 stack)
{
	struct rule_walk *walk = walk_in(skb);

	if (walk)
		await_verdict(walk, skb, expr, regs, stack);
	return 0;
}

/* nft_do_chain(pkt, chain) */
SEC("kprobe/nf_chain")
int nf_chain(struct pt_regs *ctx)
{
	return live ? begin_walk(read_u64(PT_REGS_PARM1(ctx)), PT_REGS_PARM2(ctx), WALK_NFT, 0) : 0;
}

/* The functions of expressions: (expr, regs, pkt) */
#define EXPRESSION_PROBE(name, section, note)                                  \
	SEC(section) int name(struct pt_regs *ctx)                             \
	{                                                                      \
		return live ? note(read_u64(PT_REGS_PARM3(ctx)), PT_REGS_PARM1(ctx),     \
				   PT_REGS_PARM2(ctx), PT_REGS_SP(ctx)) : 0;           \
	}

EXPRESSION_PROBE(nf_verdict, "kprobe/nf_verdict", note_verdict)
EXPRESSION_PROBE(nf_reject, "kprobe/nf_reject", note_reject)
EXPRESSION_PROBE(nf_lookup, "kprobe/nf_lookup", note_lookup)
EXPRESSION_PROBE(nf_target, "kprobe/nf_target", note_target)

/*
 * The return of an expression that was awaited. The stack pointer tells whether
 * it is that call: another packet's may have been evaluated on this CPU meanwhile.
 */
SEC("kretprobe/nf_evaluated")
int nf_evaluated(struct pt_regs *ctx)
{
	struct awaited_verdict *awaited;
	u64 skb;

	if (!live)
		return 0;
	awaited = this_awaited_verdict();
	if (!awaited || !awaited->skb || awaited->stack != PT_REGS_SP(ctx) - sizeof(u64))
		return 0;
	skb = awaited->skb;
	awaited->skb = 0;
	return take_verdict(walk_in(skb), skb, awaited->expr, read_u32(awaited->regs),
			    read_u64(awaited->regs + VERDICT_CHAIN));
}

/* ipt_do_table and its kin: settings.xt_priv_first says in which order. */
SEC("kprobe/nf_table")
int nf_table(struct pt_regs *ctx)
{
	if (!live)
		return 0;
	if (settings.xt_priv_first)
		return begin_walk(PT_REGS_PARM2(ctx), PT_REGS_PARM1(ctx), WALK_XT, PT_REGS_PARM3(ctx));
	return begin_walk(PT_REGS_PARM1(ctx), PT_REGS_PARM3(ctx), WALK_XT, PT_REGS_PARM2(ctx));
}

#endif
