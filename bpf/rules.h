/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * rules.h - which rule, or which chain's policy, dropped a tracked skb.
 *
 * A walk is one tracked skb's way through the chains of one hook. nft_do_chain
 * is entered with the base chain; what an expression decides is seen where
 * nft_immediate_eval is entered with its address, and the rule is the one that
 * holds that address. A verdict that comes out of a map (vmap) or of a target of
 * iptables-nft is known when its function returns; until then, and when that
 * return is not seen, the expression is remembered as unsure.
 */
#ifndef OTEL_KPROBE_RULES_H
#define OTEL_KPROBE_RULES_H

#include "maps.h"
#include "netfilter_types.h"
#include "read.h"

#define MAX_WALKS 4096
#define MAX_WALK_CHAINS 4
#define MAX_TABLE_CHAINS 64
#define MAX_RULES 512 /* the verifier walks each round of the loop */
#define MAX_OLD_RULES 64

#define NF_DROP 0
#define NF_VERDICT_MASK 0xff
#define NFT_JUMP -3
#define NFT_GOTO -4

/* struct nft_expr: ops, then its own data. The register 0 takes the verdict. */
#define EXPR_DATA 8
#define VERDICT_CHAIN 8 /* of struct nft_verdict, which begins with the code */
#define IMMEDIATE_DREG 16
#define OLD_SET_FLAGS 200 /* of struct nft_set, 5.10 to 6.6 */
#define SET_IS_MAP 8

/* struct nft_rule_dp: a header of 8 bytes (is_last:1, dlen:12, handle:42), then dlen bytes. */
#define RULE_LAST 1
#define RULE_DLEN(header) ((header) >> 1 & 0xfff)
#define RULE_HANDLE(header) ((header) >> 13 & ((1ULL << 42) - 1))
/* struct nft_rule before 5.17: behind a list_head handle:42, genmask:2, dlen:12, udata:1. */
#define OLD_RULE_HEADER 16
#define OLD_RULE_DATA 24
#define OLD_RULE_DLEN(header) ((header) >> 44 & 0xfff)
#define OLD_RULE_HANDLE(header) ((header) & ((1ULL << 42) - 1))

enum walk_kind {
	WALK_NFT = 1,
	WALK_XT = 2,
};

struct rule_walk {
	u64 journey;
	u64 base;   /* the base chain; of iptables the table */
	u64 unsure; /* the last expression, while its verdict is not known; else 0 */
	u32 count;  /* chains that were entered from others */
	u8 kind;
	u8 told; /* the record was sent */
	u8 family;
	u8 hook;
	u64 chains[MAX_WALK_CHAINS]; /* the last of them, a ring */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_WALKS);
	__type(key, u64); /* address of the sk_buff */
	__type(value, struct rule_walk);
} rule_walks SEC(".maps");

/* The expression that is being evaluated on this CPU and will have decided at its return. */
struct awaited_verdict {
	u64 skb; /* 0: none */
	u64 expr;
	u64 regs;  /* struct nft_regs, which begins with the verdict */
	u64 stack; /* at entry */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct awaited_verdict);
} awaited_verdicts SEC(".maps");

static __always_inline struct awaited_verdict *this_awaited_verdict(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&awaited_verdicts, &zero);
}

#define HAS_BLOBS bpf_core_field_exists(struct nft_chain, blob_gen_0)
#define CHAIN_TABLE NF_OFFSET(nft_chain, table, 64)
#define CHAIN_NAME NF_OFFSET(nft_chain, name, 88)
#define CHAIN_LIST NF_OFFSET(nft_chain, list, 32)
#define TABLE_NAME NF_OFFSET(nft_table, name, 240)
#define TABLE_CHAINS NF_OFFSET(nft_table, chains, 152)
#define BASE_CHAIN NF_OFFSET(nft_base_chain, chain, 80)
#define BASE_POLICY NF_OFFSET(nft_base_chain, policy, 64)
#define BASE_OPS NF_OFFSET(nft_base_chain, ops, 0)
#define XT_NAME NF_OFFSET(xt_table, name, 56)

/* The blob of rules of this chain that holds the expression; 0: none does. */
static __always_inline u64 blob_with(u64 chain, u64 expr)
{
	u64 blob = read_u64(chain);

	if (blob && expr - blob - 8 < read_u64(blob))
		return blob;
	blob = read_u64(chain + 8); /* of the other generation */
	if (blob && expr - blob - 8 < read_u64(blob))
		return blob;
	return 0;
}

/* The handle of the rule in this blob that holds the expression, 0 unknown. */
static __noinline u64 handle_in_blob(u64 blob, u64 expr)
{
	u64 at = blob + 8, header;
	u32 i;

	for (i = 0; i < MAX_RULES; i++) {
		header = read_u64(at);
		if (header & RULE_LAST)
			return 0;
		if (expr - at - 8 < RULE_DLEN(header))
			return RULE_HANDLE(header);
		at += 8 + RULE_DLEN(header);
	}
	return 0;
}

/* The same where a chain has an array of pointers to rules (before 5.17). */
static __noinline u64 handle_in_array(u64 rules, u64 expr)
{
	u64 rule, header;
	u32 i;

	if (!rules)
		return 0;
	for (i = 0; i < MAX_OLD_RULES; i++) {
		rule = read_u64(rules + i * 8);
		if (!rule)
			return 0;
		header = read_u64(rule + OLD_RULE_HEADER);
		if (expr - rule - OLD_RULE_DATA < OLD_RULE_DLEN(header))
			return OLD_RULE_HANDLE(header);
	}
	return 0;
}

struct found_rule {
	u64 chain; /* 0: not found */
	u64 handle;
};

/* Looks for the rule in one chain; true when it is there. */
static __always_inline int find_in_chain(struct found_rule *found, u64 chain, u64 expr)
{
	u64 blob;

	if (HAS_BLOBS) {
		blob = blob_with(chain, expr);
		found->handle = blob; /* walked once the chain is known */
		found->chain = blob ? chain : 0;
		return blob != 0;
	}
	found->handle = handle_in_array(read_u64(chain), expr);
	if (!found->handle)
		found->handle = handle_in_array(read_u64(chain + 8), expr);
	found->chain = found->handle ? chain : 0;
	return found->handle != 0;
}

/* Finds the rule that holds an expression, in the chains of the walk first. */
static __noinline int find_rule(struct found_rule *found, struct rule_walk *walk, u64 expr)
{
	u64 list, head;
	u32 i;

	if (!found || !walk)
		return 0;
	for (i = 0; i < MAX_WALK_CHAINS && i < walk->count; i++)
		if (find_in_chain(found, walk->chains[(walk->count - 1 - i) & (MAX_WALK_CHAINS - 1)], expr))
			goto handle;
	if (find_in_chain(found, walk->base, expr))
		goto handle;
	if (!HAS_BLOBS)
		return 0;
	head = read_u64(walk->base + CHAIN_TABLE) + TABLE_CHAINS;
	list = head;
	for (i = 0; i < MAX_TABLE_CHAINS; i++) {
		list = read_u64(list);
		if (list == head || !list)
			return 0;
		if (find_in_chain(found, list - CHAIN_LIST, expr))
			goto handle;
	}
	return 0;
handle:
	if (HAS_BLOBS)
		found->handle = handle_in_blob(found->handle, expr);
	return 1;
}

static __always_inline void read_name(u8 name[64], u64 from)
{
	bpf_probe_read_kernel_str(name, 64, (void *)from);
}

/* Fills what is known of the base chain, and of the rule that holds expr (0: of none). */
static __noinline int read_rule(struct rule_record *record, struct rule_walk *walk, u64 expr)
{
	struct found_rule found = {};
	u64 ops, chain;

	if (!record || !walk)
		return 0;
	if (walk->kind == WALK_XT) {
		record->family = walk->family;
		record->hook = walk->hook;
		read_name(record->table, walk->base + XT_NAME);
		return 0;
	}
	ops = walk->base - BASE_CHAIN + BASE_OPS;
	record->family = read_u8(ops + bpf_core_field_offset(struct nf_hook_ops, pf));
	record->hook = read_u8(ops + bpf_core_field_offset(struct nf_hook_ops, hooknum));
	chain = walk->base;
	if (expr && find_rule(&found, walk, expr)) {
		chain = found.chain;
		record->handle = found.handle;
	}
	read_name(record->table, read_u64(read_u64(chain + CHAIN_TABLE) + TABLE_NAME));
	read_name(record->chain, read_u64(chain + CHAIN_NAME));
	return 0;
}

static __noinline int send_rule(struct rule_walk *walk, u64 skb, u32 what, u64 expr)
{
	struct cpu_state *cpu = this_cpu_state();
	struct rule_record *record;

	if (!cpu || !walk)
		return 0;
	walk->told = 1;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		COUNT(cpu->ring_full_facts);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = RECORD_RULE;
	record->what = what;
	record->cpu = bpf_get_smp_processor_id();
	record->tid = bpf_get_current_pid_tgid();
	record->journey = walk->journey;
	record->skb = skb;
	record->at_mono_ns = bpf_ktime_get_ns();
	read_rule(record, walk, expr);
	bpf_ringbuf_submit(record, record_flag(cpu));
	return 0;
}

/* The walk that a followed skb is on, or was on last; NULL without. */
static __always_inline struct rule_walk *walk_of(u64 journey, u64 skb)
{
	struct rule_walk *walk = bpf_map_lookup_elem(&rule_walks, &skb);

	return walk && walk->journey == journey ? walk : 0;
}

/*
 * A followed skb was dropped. Unless its rule has been told, that may have been
 * the policy of the chain that it went through last; user space judges by where
 * it was dropped.
 */
static __noinline int tell_last_walk(u64 skb)
{
	struct tracked_skb *state = bpf_map_lookup_elem(&tracked, &skb);
	struct rule_walk *walk = state ? walk_of(state->journey, skb) : 0;
	int drops;

	if (!walk || walk->told)
		return 0;
	if (walk->kind == WALK_XT)
		return send_rule(walk, skb, RULE_TABLE, 0);
	drops = read_u8(walk->base - BASE_CHAIN + BASE_POLICY) == NF_DROP;
	if (walk->unsure && !drops)
		return send_rule(walk, skb, RULE_SUSPECT, walk->unsure);
	return send_rule(walk, skb, drops && !walk->unsure ? RULE_POLICY : RULE_UNKNOWN, 0);
}

#endif
