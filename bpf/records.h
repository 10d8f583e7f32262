/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * records.h - what the kernel side sends through the ring buffer.
 *
 * Every record starts with {kind, flags, cpu, tid} and has one fixed size, but
 * for kind and flags that say otherwise. No implicit padding, no packed, no char (bpf2go would make it int8). bpf.Decode
 * is the only reader; layout_test.go compares these with the Go types. All
 * times are CLOCK_MONOTONIC nanoseconds (bpf_ktime_get_ns).
 */
#ifndef OTEL_KPROBE_RECORDS_H
#define OTEL_KPROBE_RECORDS_H

#include "app_context.h"

enum record_kind {
	RECORD_FRAME = 1,
	RECORD_FACTS = 2,
	RECORD_CLONE = 3,
	RECORD_END = 4,
	RECORD_STACK = 9,
	RECORD_FIELDS = 10,
	RECORD_CONNTRACK = 11,
	RECORD_RULE = 12,
	RECORD_OWNER = 13,
	RECORD_LINK = 14,
	RECORD_APP = 15,
	RECORD_PAYLOAD = 16,
};

/* Flags of struct frame_record. */
enum frame_flag {
	FRAME_ENTRY_ONLY = 1 << 0,
	FRAME_NO_SKB = 1 << 1,       /* of a function without an skb, in a frame of this one */
	FRAME_CALLEES_LOST = 1 << 2, /* frames with FRAME_NO_SKB may be missing in this one */
	FRAME_SHED = 1 << 3,         /* functions are shed, so frames before or after this one may be missing */
};

/* Flags of struct facts_record. */
enum facts_flag {
	FACTS_START = 1 << 0,
	FACTS_TUPLE = 1 << 1,
	FACTS_PORTS = 1 << 2,
	FACTS_ICMP = 1 << 3,
	FACTS_LATE = 1 << 4, /* the packet's first functions may have been left out */
	FACTS_SAMPLED = 1 << 5, /* randomness is sent, too */
};

/* What struct rule_record says of the packet filter; its byte what. */
enum rule_what {
	RULE_DROPS = 1,  /* this rule's verdict is to drop; it is being carried out */
	RULE_POLICY = 2, /* the packet was dropped, after this chain was the last entered: its policy */
	RULE_SUSPECT = 3, /* … and this rule's verdict, the last, was not seen; no policy drops */
	RULE_UNKNOWN = 4, /* … and a rule's verdict was not seen, or the policy would not drop */
	RULE_TABLE = 5,  /* … after this table of iptables was the last entered */
};

/* Flags of struct stack_record and struct caller_record: one of them. */
enum stack_flag {
	STACK_DROP = 1 << 0,   /* where the skb was dropped */
	STACK_FRAME = 1 << 1,  /* where a frame was entered */
	STACK_CALLER = 1 << 2, /* a caller_record: the return address only */
};

/* Flags of struct fields_record. */
enum fields_flag {
	FIELDS_PAYLOAD = 1 << 0, /* data is the packet's, from its network header on */
};

/* How a tracked skb ended; the flags byte of struct end_record. */
enum end_how {
	END_DROPPED = 1,
	END_CONSUMED = 2,
	END_FREED = 3,
	END_MERGED = 4,
	END_DEFERRED = 5,
	END_EVICTED = 6,
	/* 7 is user space's own (event.EndAbsorbed). A packet without an skb, by the verdict of XDP: */
	END_PASSED = 8,     /* XDP_PASS */
	END_SENT = 9,       /* XDP_TX: back to where it came from */
	END_REDIRECTED = 10, /* XDP_REDIRECT */
};

/* What joins two packets; the flags byte of struct link_record. */
enum link_what {
	LINK_DERIVED = 1, /* skb was made from other_skb, and is followed as journey from here on */
	LINK_MERGED = 2,  /* what skb held goes on in other_skb */
	/* 3 is user space's own (event.LinkRetransmitted). */
	LINK_CHAINED = 4, /* skb goes with other_skb until it is cut off again, as it is */
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
	__u8 tcp_words; /* from the network header to the end of the TCP header, 4 bytes each */
	__u16 network_offset; /* of the network header in the skb's head, 0: none */
	__s16 network_distance; /* from data on to it; below 0 when data is past it */
	__u8 source[16];
	__u8 destination[16];
	__u8 interface[16];
	__u8 comm[16];
	__u64 randomness; /* of the packet's flow, see sample.h; 0 unknown. Sent with FACTS_SAMPLED only */
};

#define FACTS_BYTES 152 /* without randomness */

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

#define STACK_DEPTH 32
#define EXTRA_BYTES 256

/* The kernel stack, innermost first. ordinal and at_mono_ns are the frame's, 0 and then for a drop. */
struct stack_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u32 ordinal;
	__u32 depth; /* of addresses */
	__u64 addresses[STACK_DEPTH];
};

/* A stack_record with one address: where a frame returns to. */
struct caller_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u32 ordinal;
	__u32 depth;
	__u64 address;
};

/*
 * Members of an skb at a frame's entry (ordinal and at_mono_ns are the frame's),
 * or the packet's bytes. Only the first `bytes` of data are sent.
 */
struct fields_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u32 ordinal;
	__u16 valid; /* bit n: field n could be read */
	__u16 bytes;
	__u8 data[EXTRA_BYTES];
};

#define FIELDS_HEAD_BYTES 40

/* Two packets that have to do with one another: journey is that of skb. */
struct link_record {
	__u8 kind;
	__u8 what;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 other;
	__u64 skb;
	__u64 other_skb;
	__u64 func; /* that cut or merged */
	__u64 at_mono_ns;
};

/* Flags of struct owner_record. */
enum owner_flag {
	OWNER_PROCESS = 1 << 0, /* tgid, tid and comm are known */
	OWNER_KERNEL = 1 << 1,  /* the kernel's own socket, or a connection in TIME_WAIT: nobody's */
};

/* The socket that an skb belongs to from now on, and who uses that. */
struct owner_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u64 sock;
	__u64 cgroup;
	__u32 tgid;
	__u8 pad[4];
	__u8 comm[16];
};

/* What struct app_record tells; its byte what. */
enum app_what {
	APP_WRITES = 1, /* the packet carries bytes of this write */
	APP_SENDS = 2,  /* the current thread, which sends the packet, is in this span */
	APP_READS = 3,  /* the current thread, which reads the packet's data, is in this span */
};

/* What a program did, and in which span of its own, with a tracked skb. */
struct app_record {
	__u8 kind;
	__u8 what;
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u64 write_mono_ns; /* APP_WRITES: when it was written, else 0 */
	__u32 seq;           /* APP_WRITES: sequence number of the write's first byte */
	__u8 source;         /* who told app: enum app_source, 0: it is none */
	__u8 flags;          /* enum app_flag */
	__u8 pad[2];
	struct app_context app;
};

#define TCP_OPTION_BYTES 40
#define PAYLOAD_BYTES 1024
#define PAYLOAD_HEAD_BYTES 128

/* The beginning of what a TCP packet carries. Only the first data_bytes of data are sent. */
struct payload_record {
	__u8 kind;
	__u8 family; /* 4 or 6 */
	__u16 cpu;
	__u32 tid;
	__u64 journey;
	__u64 skb;
	__u64 at_mono_ns;
	__u8 source[16];
	__u8 destination[16];
	__u32 seq;
	__u32 ack;
	__u32 length; /* of the data in the packet */
	__u16 source_port;
	__u16 destination_port;
	__u16 data_bytes;
	__u8 option_bytes;
	__u8 tcp_flags;
	__u8 pad[4];
	__u8 options[TCP_OPTION_BYTES];
	__u8 data[PAYLOAD_BYTES];
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
