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
	RECORD_OWNER = 13,
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

#endif
