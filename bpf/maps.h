/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* maps.h - the maps, and what they hold. */
#ifndef OTEL_KPROBE_MAPS_H
#define OTEL_KPROBE_MAPS_H

#include "count.h"
#include "settings.h"
#include "records.h"
#include "ring.h"
#include <bpf/bpf_helpers.h>

/* Tracked skbs that exist now. Zero lets every probe leave without a look-up. */
s64 live = 0;

/* CLOCK_MONOTONIC of the last journey that was not begun for want of room. */
u64 left_out_mono_ns = 0;

/* Constant once loaded: functions may be shed. */
const volatile u8 can_shed = 0;

/* How many are in shed_functions. Zero lets every frame do without a look-up. */
u32 shed_count = 0;

#define MAX_TRACKED 65536
#define MAX_SHED_FUNCTIONS 1024
#define SLOTS_PER_CPU 1024

/* What is remembered of one tracked skb. */
struct tracked_skb {
	u64 journey;
	u64 dev;
	u64 fingerprint;
	u64 seen_mono_ns;
	u64 fields; /* hash of the last fields_record, 0: none */
	u64 origin; /* the journey that this one was cut from, 0: none */
	u64 head; /* the journey of the skb that this one is chained to, 0: none */
	u64 sock; /* that the last owner record was about, or should have been */
	u64 nfct; /* sk_buff's when it was last sent */
	u64 randomness; /* with settings.sample_threshold: of facts_record */
	u32 nfct_status; /* the connection's status then */
	u32 facts;
	u32 entered;
	u32 tid;
	u32 mark;
	u32 payload_seen; /* what the packet carries was looked at */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TRACKED);
	__type(key, u64); /* address of the sk_buff */
	__type(value, struct tracked_skb);
} tracked SEC(".maps");

/* A slot whose return was missed (recursion) is taken back after this time. */
#define SLOT_STALE_NS 10000000000ULL

/* One frame between its entry and its return. */
struct slot {
	u32 generation;
	u8 busy;
	u8 kin; /* enum kin */
	u8 pad[2];
	u64 outer; /* with settings.callees: cookie of the frame that it runs in, 0 none */
	u64 first; /* first argument, for the kin that need it */
	struct frame_record frame;
};

/* CPU c uses the slots from c * SLOTS_PER_CPU; user space sizes the map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_PER_CPU);
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* Counters of one CPU: what was lost, and what the next thing is called. */
struct cpu_state {
	u64 ring_full_frames;
	u64 ring_full_facts;
	u64 ring_full_ends;
	u64 ring_full_extras;
	u64 left_out_starts;
	u64 unsampled; /* packets that were left out for their randomness */
	u64 tracked_full;
	u64 slots_full;
	u64 returns_lost;
	u64 submitted_frames;
	u64 next_journey;
	u64 next_run_journey; /* of those that begin with a run of a traced program */
	u64 ended_journey; /* of the skb that ended last and was not chained; and how it ended */
	u64 ended_location;
	u32 ended_how;
	u32 ended_reason;
	u32 next_slot;
	u32 since_query;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_state);
} cpu_states SEC(".maps");

/* A connection of our own exporter: never traced. Addresses as on the wire. */
struct own_flow {
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u8 pad[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct own_flow);
	__type(value, u32);
} own_flows SEC(".maps");

/*
 * The functions that are shed, because too many events came (internal/guard), and how
 * many of their frames were not recorded on each CPU. One entry unless can_shed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_SHED_FUNCTIONS);
	__type(key, u64); /* address of the function */
	__type(value, u64);
} shed_functions SEC(".maps");

static __always_inline struct cpu_state *this_cpu_state(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&cpu_states, &zero);
}

/* The flag to submit a record with. */
static __always_inline u64 record_flag(struct cpu_state *cpu)
{
	return wakeup_flag(&cpu->since_query, settings.wakeup_bytes);
}

/*
 * When the reader falls behind, packets are left out as a whole: the rest of
 * the ring is for those that are followed already, so that their traces are
 * complete.
 */
static __always_inline int reader_is_behind(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= settings.crowded_bytes;
}

#endif
