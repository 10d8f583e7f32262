/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * netfilter_types.h - the members of conntrack's and the packet filters'
 * structures that we read.
 *
 * Many of these structures are in the BTF of a module only, and Linux 5.10 has no
 * BTF of modules: NF_OFFSET falls back to where they lie there. vmlinux describes
 * struct nf_conn on all tested kernels, since the network core uses it.
 */
#ifndef OTEL_KPROBE_NETFILTER_TYPES_H
#define OTEL_KPROBE_NETFILTER_TYPES_H

#include "kernel_types.h"
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct nf_conntrack_zone {
	__u16 id;
};

struct nf_conntrack_tuple { /* read as struct conntrack_tuple */
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct ip_ct_tcp {
	__u8 state;
};

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
};

struct nf_conn {
	struct nf_conntrack_zone zone;
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
	__u32 mark;
	union nf_conntrack_proto proto;
};

struct nf_hook_state {
	__u8 hook; /* an unsigned int before 5.12 */
	__u8 pf;
};

struct nf_hook_ops {
	__u8 pf;
	unsigned int hooknum;
};

struct xt_table {
	char name[32];
};

struct nft_rule_blob {
	unsigned long size;
};

struct nft_table {
	struct list_head chains;
	char *name;
};

struct nft_chain {
	struct nft_rule_blob *blob_gen_0; /* since 5.17; rules_gen_0 before */
	struct nft_rule_blob *blob_gen_1;
	struct list_head list;
	struct nft_table *table;
	char *name;
};

struct nft_base_chain {
	struct nf_hook_ops ops;
	__u8 policy;
	struct nft_chain chain;
};

struct nft_lookup {
	void *set;
	__u8 dreg;
	_Bool dreg_set; /* since 5.18 */
};

#pragma clang attribute pop

/* Where a member lies, or where it lies on 5.10 when no BTF tells. */
#define NF_OFFSET(type, member, old)                                           \
	(bpf_core_field_exists(struct type, member) ?                          \
		 (u64)bpf_core_field_offset(struct type, member) :             \
		 (u64)(old))

#endif
