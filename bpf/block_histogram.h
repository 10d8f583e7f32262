/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * block_histogram.h - latencies counted in the kernel. internal/blockio has the
 * same indices: 16 steps in each power of two of 1/16 µs, so that rows of powers
 * of two of a microsecond are exact sums.
 */
#ifndef OTEL_KPROBE_BLOCK_HISTOGRAM_H
#define OTEL_KPROBE_BLOCK_HISTOGRAM_H

#include "block_state.h"

#define BUCKETS 512
#define STEP_BITS 4
#define MAX_HISTOGRAMS 1024

struct histogram_key {
	u8 bytes[16];
};

struct histogram {
	u64 counts[BUCKETS];
	u64 count;
	u64 sum_ns;
	u64 min_ns; /* plus one; 0 with no count */
	u64 max_ns;
};

/* With BY_NONE. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct histogram);
} total SEC(".maps");

/* By any key; shared by all CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_HISTOGRAMS);
	__type(key, struct histogram_key);
	__type(value, struct histogram);
} histograms SEC(".maps");

/* Latencies that found no room in histograms: too many keys. */
u64 histograms_full = 0;

const struct histogram empty_histogram = {};

static __always_inline u32 log2_of(u64 value)
{
	u32 log = 0;

	if (value >> 32) { value >>= 32; log += 32; }
	if (value >> 16) { value >>= 16; log += 16; }
	if (value >> 8) { value >>= 8; log += 8; }
	if (value >> 4) { value >>= 4; log += 4; }
	if (value >> 2) { value >>= 2; log += 2; }
	return log + (value >> 1);
}

static __always_inline u32 bucket_of(u64 ns)
{
	u64 steps = ns * 2 / 125;
	u32 log, bucket;

	if (steps < 1 << STEP_BITS)
		return steps;
	log = log2_of(steps);
	bucket = (log - STEP_BITS + 1) << STEP_BITS | (steps >> (log - STEP_BITS) & ((1 << STEP_BITS) - 1));
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static __always_inline void key_of(struct histogram_key *key, const struct block_record *record)
{
	__builtin_memset(key, 0, sizeof(*key));
	switch (settings.by) {
	case BY_DEVICE:
		*(u32 *)key->bytes = record->device;
		break;
	case BY_OPERATION:
		key->bytes[0] = record->operation & OPERATION_MASK;
		break;
	case BY_CGROUP:
		*(u64 *)key->bytes = record->submitter.cgroup;
		break;
	case BY_PROCESS:
		__builtin_memcpy(key->bytes, record->submitter.comm, sizeof(key->bytes));
	}
}

/* Plain stores: of two CPUs at the same instant one may lose its extreme. */
static __always_inline void note_extremes(struct histogram *histogram, u64 ns)
{
	if (!histogram->min_ns || ns + 1 < histogram->min_ns)
		histogram->min_ns = ns + 1;
	if (ns > histogram->max_ns)
		histogram->max_ns = ns;
}

static __always_inline void count_total(u64 ns)
{
	u32 zero = 0, bucket = bucket_of(ns);
	struct histogram *histogram = bpf_map_lookup_elem(&total, &zero);

	if (!histogram || bucket >= BUCKETS)
		return;
	histogram->counts[bucket]++;
	histogram->count++;
	histogram->sum_ns += ns;
	note_extremes(histogram, ns);
}

static __always_inline void count_keyed(const struct block_record *record, u64 ns)
{
	u32 bucket = bucket_of(ns);
	struct histogram *histogram;
	struct histogram_key key;

	key_of(&key, record);
	histogram = bpf_map_lookup_elem(&histograms, &key);
	if (!histogram) {
		bpf_map_update_elem(&histograms, &key, &empty_histogram, BPF_NOEXIST);
		histogram = bpf_map_lookup_elem(&histograms, &key);
	}
	if (!histogram) {
		__sync_fetch_and_add(&histograms_full, 1);
		return;
	}
	if (bucket >= BUCKETS)
		return;
	__sync_fetch_and_add(&histogram->counts[bucket], 1);
	__sync_fetch_and_add(&histogram->count, 1);
	__sync_fetch_and_add(&histogram->sum_ns, ns);
	note_extremes(histogram, ns);
}

static __always_inline void count_latency(const struct block_record *record, u64 ns)
{
	if (settings.by == BY_NONE)
		count_total(ns);
	else
		count_keyed(record, ns);
}

#endif
