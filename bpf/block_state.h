/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* block_state.h - settings, maps, and what they hold, of the block programs. */
#ifndef OTEL_KPROBE_BLOCK_STATE_H
#define OTEL_KPROBE_BLOCK_STATE_H

#include "block_records.h"
#include "block_types.h"
#include "count.h"
#include "ring.h"
#include <bpf/bpf_helpers.h>

#define MAX_DEVICES 8

/* Set once, before loading; constant to the verifier, which drops dead branches. */
struct block_settings {
	u64 operations;     /* bit per operation that is wanted; 0: all */
	u64 cgroup;         /* 0: any; else a cgroup and those below it */
	u64 min_latency_ns; /* report nothing faster */
	u64 sample_threshold; /* report nothing of less randomness (block_sample.h); 0: all */
	u32 cgroup_level;   /* its depth below the root */
	u32 tgid;           /* 0: any */
	u32 own_tgid;       /* our own process */
	u32 wakeup_bytes;
	u32 device_count; /* 0: all devices */
	u32 devices[MAX_DEVICES];
	u8 records;      /* send records */
	u8 histogram;    /* count latencies */
	u8 by;           /* enum histogram_by */
	u8 bios;         /* block_bio_queue is attached: submitters are known */
	u8 status_errno; /* block_rq_complete reports an errno */
	/* Which argument of its tracepoint, 0 or 1: a struct request_queue came first on older kernels. */
	u8 issue_arg;
	u8 insert_arg;
	u8 requeue_arg;
	u8 complete_arg;
	u8 queue_arg;
	u8 bio_complete_arg;
	u8 remap_arg;
	u8 split_arg;
	u8 execute_arg; /* of blk_execute_rq: 0, 1 or 2 */
	u8 contexts;    /* read the submitter's span of its application */
	u8 pad[5];
};

const volatile struct block_settings settings = {};

enum histogram_by {
	BY_NONE = 0,
	BY_DEVICE = 1,
	BY_OPERATION = 2,
	BY_CGROUP = 3,
	BY_PROCESS = 4,
};

/* A request between its issue and its completion. */
struct request_state {
	u64 key; /* address of the struct request, 0: free */
	u64 attempt_mono_ns;
	u8 requeued; /* given back, and not issued again yet */
	u8 children; /* bios were submitted to serve it */
	u8 pad[6];
	struct block_record record;
};

/*
 * A bio between its submission and the issue of its request; on a device without
 * requests, to its completion. Also, by the address of the request, one that was
 * passed through and has no bio.
 */
struct bio_state {
	u64 key; /* address of the struct bio, 0: free */
	u64 claimed_mono_ns;
	u64 id; /* with upper */
	u64 parent;
	u64 insert_mono_ns;
	u64 sector; /* with upper, as bytes and device */
	struct submitter submitter;
	u32 bytes;
	u32 device;
	u32 operation;
	u8 flags;    /* enum block_flag, and STATE_FLAGS */
	u8 upper;    /* on a device without requests */
	u8 wanted;   /* with upper: it will be reported */
	u8 children; /* with upper: bios were mapped from it */
	u8 mapped;   /* mapped from an upper one, and not submitted yet */
	u8 app_source; /* of submitter.app */
	u8 app_flags;
	u8 pad[5];
};

/* Flags of states, which no record is sent with: submitted in the cgroup that is wanted … */
#define BIO_IN_CGROUP (1 << 7)
/* … and left out, or below a bio or request that is (block_sample.h). */
#define BIO_UNSAMPLED (1 << 6)
#define STATE_FLAGS (BIO_IN_CGROUP | BIO_UNSAMPLED)

/* Where an upper bio begins: what a bio that is mapped from there belongs to. */
struct upper_key {
	u64 sector;
	u32 device;
	u32 tid; /* of the thread that submitted it; 0 in the entry for all threads */
};

struct upper {
	u64 bio;
	u64 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct upper_key);
	__type(value, struct upper);
} uppers SEC(".maps");

/* The loop request that a thread serves now. */
struct worker {
	u64 request;
	u64 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32); /* tid */
	__type(value, struct worker);
} workers SEC(".maps");

/* Threads that write dirty pages back. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32); /* tid */
	__type(value, u32);
} writers SEC(".maps");

/* Entries of uppers, workers, writers and requeued requests; 0 saves a look-up. */
s64 upper_count = 0;
s64 worker_count = 0;
s64 writer_count = 0;
s64 requeued_count = 0;

/* Counters of one CPU. */
struct block_cpu_state {
	u64 submitted; /* records of requests and bios that went into the ring */
	u64 ring_full; /* records that found no room, of any kind */
	u64 unsampled; /* requests and bios that were left out for their randomness */
	u64 requests_full;
	u64 bios_full;
	u64 evicted; /* states that were given up to make room: their end was missed */
	u64 next_id;
	u64 issued;    /* address of the request that rq_issue was run for last */
	u64 completed; /* the same of rq_complete */
	u64 queued;    /* … of the bio of bio_queue */
	u32 since_query;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct block_cpu_state);
} block_cpu_states SEC(".maps");

static __always_inline struct block_cpu_state *this_cpu_state(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&block_cpu_states, &zero);
}

/* Unique within one run, never 0; equal to no other CPU's. */
static __always_inline u64 new_id(struct block_cpu_state *cpu)
{
	return ((u64)(bpf_get_smp_processor_id() + 1) << 48) | NEXT(cpu->next_id);
}

/* Zeroes all of a state but its key, word by word. */
#define CLEAR_STATE(state)                                                     \
	do {                                                                   \
		u64 *words = (u64 *)(state);                                   \
		u32 word;                                                      \
                                                                               \
		_Pragma("unroll") for (word = 1; word < sizeof(*(state)) / sizeof(u64); word++) \
			words[word] = 0;                                       \
	} while (0)

#define TABLE_BITS 16
#define TABLE_ENTRIES (1 << TABLE_BITS)
/* What was claimed so long ago is never coming back. */
#define STALE_NS 120000000000ULL
/* What was mapped so long ago was never submitted. */
#define MAPPED_NS 10000000000ULL

#ifdef NEW_KERNEL

/*
 * A table of states in an array, found by a hash of the address: a look-up is a
 * few instructions where a hash map's costs 215. Entries are claimed by compare
 * and exchange (Linux 5.12). A state is only touched by who owns the request or
 * bio, so nothing else needs a lock.
 */
#define TABLE_PROBES 8

static __always_inline u32 table_index(u64 address)
{
	return address * 0x9e3779b97f4a7c15ULL >> (64 - TABLE_BITS);
}

/* A state that has just been claimed has no age yet. */
static __always_inline int is_stale(u64 since_mono_ns, u64 now)
{
	return since_mono_ns && now - since_mono_ns >= STALE_NS;
}

#define TABLE(name, state_type, age)                                                 \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_ARRAY);                              \
		__uint(max_entries, TABLE_ENTRIES);                            \
		__type(key, u32);                                              \
		__type(value, struct state_type);                                    \
	} name SEC(".maps");                                                   \
                                                                               \
	static __always_inline struct state_type *find_##name(u64 address)           \
	{                                                                      \
		u32 first = table_index(address), i;                           \
                                                                               \
		for (i = 0; i < TABLE_PROBES; i++) {                           \
			u32 at = (first + i) & (TABLE_ENTRIES - 1);            \
			struct state_type *state = bpf_map_lookup_elem(&name, &at);  \
                                                                               \
			if (state && state->key == address)                    \
				return state;                                  \
		}                                                              \
		return 0;                                                      \
	}                                                                      \
                                                                               \
	static __always_inline struct state_type *claim_##name(                      \
		struct block_cpu_state *cpu, u64 address, u64 now)             \
	{                                                                      \
		u32 first = table_index(address), i;                           \
                                                                               \
		for (i = 0; i < TABLE_PROBES; i++) {                           \
			u32 at = (first + i) & (TABLE_ENTRIES - 1);            \
			struct state_type *state = bpf_map_lookup_elem(&name, &at);  \
			u64 old;                                               \
                                                                               \
			if (!state)                                            \
				return 0;                                      \
			old = state->key;                                      \
			if (old && old != address && !is_stale(state->age, now)) \
				continue;                                      \
			if (__sync_val_compare_and_swap(&state->key, old, address) != old) \
				continue;                                      \
			if (old)                                               \
				COUNT(cpu->evicted);                           \
			return state;                                          \
		}                                                              \
		COUNT(cpu->name##_full);                                       \
		return 0;                                                      \
	}                                                                      \
                                                                               \
	static __always_inline void release_##name(struct state_type *state, u64 address) \
	{                                                                      \
		state->age = 0;                                                \
		*(volatile u64 *)&state->key = 0;                              \
	}

#else

/* Linux before 5.17 has no compare and exchange: a hash map does it. */
#define TABLE(name, state_type, age)                                                 \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_HASH);                               \
		__uint(max_entries, TABLE_ENTRIES);                            \
		__type(key, u64);                                              \
		__type(value, struct state_type);                                    \
	} name SEC(".maps");                                                   \
                                                                               \
	const struct state_type empty_##name = {};                                   \
                                                                               \
	static __always_inline struct state_type *find_##name(u64 address)           \
	{                                                                      \
		return bpf_map_lookup_elem(&name, &address);                   \
	}                                                                      \
                                                                               \
	static __always_inline struct state_type *claim_##name(                      \
		struct block_cpu_state *cpu, u64 address, u64 now)             \
	{                                                                      \
		struct state_type *state = bpf_map_lookup_elem(&name, &address);     \
                                                                               \
		if (state) {                                                   \
			COUNT(cpu->evicted);                                   \
		} else if (bpf_map_update_elem(&name, &address, &empty_##name, BPF_ANY)) { \
			COUNT(cpu->name##_full);                               \
			return 0;                                              \
		} else {                                                       \
			state = bpf_map_lookup_elem(&name, &address);          \
		}                                                              \
		if (state)                                                     \
			state->key = address;                                  \
		return state;                                                  \
	}                                                                      \
                                                                               \
	static __always_inline void release_##name(struct state_type *state, u64 address) \
	{                                                                      \
		bpf_map_delete_elem(&name, &address);                          \
	}

#endif

TABLE(requests, request_state, record.issue_mono_ns)
TABLE(bios, bio_state, claimed_mono_ns)

#endif
