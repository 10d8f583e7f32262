/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* settings.h - what user space writes before it loads the programs. */
#ifndef OTEL_KPROBE_SETTINGS_H
#define OTEL_KPROBE_SETTINGS_H

#include "kernel_types.h"

/* Set once, before loading; constant to the verifier, which drops dead branches. */
struct probe_settings {
	u32 netns;         /* 0: any; else the inode number of the network namespace */
	u32 mark;          /* compared after mark_mask */
	u32 mark_mask;     /* 0: any */
	u32 crowded_bytes; /* begin no journey while this much of the ring is unread */
	u32 wakeup_bytes;  /* wake the reader when this much of the ring is unread */
	u8 has_interface;  /* compare interface */
	u8 has_func_ip;    /* bpf_get_func_ip works for this program type (kprobe: 5.15+) */
	u8 has_reason;     /* tracepoint kfree_skb has a third argument (5.17+) */
	u8 entry_only;     /* report at entry, no returns */
	u32 sk_buff_id;    /* BTF ids of structs in vmlinux, for the session object */
	u32 raw_bytes_id;  /* struct ip_options, see read.h */
	u8 interface[16];  /* NUL-padded; at a multiple of 8, as it is compared in two halves */
	u8 callees;        /* functions without an skb are probed as well */
	u8 has_tunnel;     /* compare what a tunnel carries (tunnel.h) */
	u8 has_rules;      /* the programs of rules.h run: a packet filter is loaded */
	u8 xt_priv_first;  /* ipt_do_table(priv, skb, state) (5.16+), else (skb, state, table) */
	u8 correlate;      /* spans of applications are asked for */
	u8 payload;        /* … also of those that packets' data name (payloads.h) */
	u8 pad[2];
	u64 page_offset_base_at; /* addresses of these variables, see payloads.h; 0: not known */
	u64 vmemmap_base_at;
	u64 sample_threshold; /* leave out packets of less randomness (sample.h); 0: none */
};

const volatile struct probe_settings settings = {};

#endif
