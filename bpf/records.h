/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * records.h - what the kernel side sends through the ring buffer.
 *
 * Every record starts with {kind, flags, cpu, tid} and has one fixed size. No
 * implicit padding, no packed, no char (bpf2go would make it int8). bpf.Decode
 * is the only reader; layout_test.go compares these with the Go types. All
 * times are CLOCK_MONOTONIC nanoseconds (bpf_ktime_get_ns).
 */
#ifndef OTEL_KPROBE_RECORDS_H
#define OTEL_KPROBE_RECORDS_H

enum record_kind {
	RECORD_FRAME = 1,
	RECORD_FACTS = 2,
	RECORD_CLONE = 3,
	RECORD_END = 4,
	RECORD_CONNTRACK = 11,
	RECORD_RULE = 12,
};

/* Flags of struct frame_record. */
enum frame_flag {
	FRAME_ENTRY_ONLY = 1 << 0,
};

/* Flags of struct facts_record. */
enum facts_flag {
	FACTS_START = 1 << 0,
	FACTS_TUPLE = 1 << 1,
	FACTS_PORTS = 1 << 2,
	FACTS_ICMP = 1 << 3,
	FACTS_LATE = 1 << 4, /* the packet's first functions may have been left out */
};

/* What struct rule_record says of the packet filter; its byte what. */
enum rule_what {
	RULE_DROPS = 1,  /* this rule's verdict is to drop; it is being carried out */
	RULE_POLICY = 2, /* the packet was dropped, after this chain was the last entered: its policy */
	RULE_SUSPECT = 3, /* … and this rule's verdict, the last, was not seen; no policy drops */
	RULE_UNKNOWN = 4, /* … and a rule's verdict was not seen, or the policy would not drop */
	RULE_TABLE = 5,  /* … after this table of iptables was the last entered */
};

/* How a tracked skb ended; the flags byte of struct end_record. */
enum end_how {
	END_DROPPED = 1,
	END_CONSUMED = 2,
	END_FREED = 3,
	END_MERGED = 4,
	END_DEFERRED = 5,
	END_EVICTED = 6,
};

/* One call of one probed function on one tracked skb. */
struct frame_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 func;
	__u64 stack;
	__u64 enter_mono_ns;
	__u64 exit_mono_ns;
	__u64 ret;
	__u32 len;
	__u32 mark;
	__u32 facts;
	__u32 ordinal;
};

/* What is known of an skb and changes rarely. */
struct facts_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u32 number;
	__u32 tgid;
	__u32 netns;
	__u32 ifindex;
	__u32 mtu;
	__u32 mark;
	__u32 len;
	__u32 tcp_seq;
	__u32 tcp_ack;
	__u16 source_port;
	__u16 destination_port;
	__u16 icmp_id;
	__u16 icmp_seq;
	__u16 ether_type;
	__u8 family;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pad[5];
	__u8 source[16];
	__u8 destination[16];
	__u8 interface[16];
	__u8 comm[16];
};

/* An skb that joins the journey of the one it was made from. */
struct clone_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 parent;
	__u64 at_mono_ns;
};

/* A tracked skb is followed no longer. */
struct end_record {
	__u8 kind;
	__u8 how;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u64 location;
	__u32 reason;
	__u32 entered;
};

/* A tuple as struct nf_conntrack_tuple has it; ports in network order. */
struct conntrack_tuple {
	__u8 source[16];
	__u16 source_port;
	__u16 family; /* AF_INET, AF_INET6 */
	__u8 destination[16];
	__u16 destination_port; /* of ICMP: type, code */
	__u8 protocol;
	__u8 direction; /* 0 original, 1 reply */
};

/* The connection of a tracked skb, when it or its state has changed. */
struct conntrack_record {
	__u8 kind;
	__u8 info; /* enum ip_conntrack_info */
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u32 status; /* enum ip_conntrack_status */
	__u32 mark;
	__u16 zone;
	__u8 tcp_state;
	__u8 pad[5];
	struct conntrack_tuple original;
	struct conntrack_tuple reply;
};

/* What of a packet filter dropped a tracked skb. Names are cut to 63 bytes. */
struct rule_record {
	__u8 kind;
	__u8 what;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u64 handle; /* of the rule, 0 unknown */
	__u8 family;  /* NFPROTO_… */
	__u8 hook;    /* hook number of the base chain or table */
	__u8 pad[6];
	__u8 table[64];
	__u8 chain[64];
};

#endif
