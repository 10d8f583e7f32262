/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * block_bios.h - bios from their submission on: who submitted them, and which
 * bio or request on an upper device they serve.
 */
#ifndef OTEL_KPROBE_BLOCK_BIOS_H
#define OTEL_KPROBE_BLOCK_BIOS_H

#include "block_filter.h"
#include "block_sample.h"
#include "block_state.h"

#define MAX_CGROUP_DEPTH 16

/* Is the wanted cgroup this one, or above it? */
static __always_inline int in_cgroup(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *css = &cgroup->self;
	int i;

	for (i = 0; i < MAX_CGROUP_DEPTH && css; i++) {
		if (BPF_CORE_READ(css, cgroup, kn, id) == settings.cgroup)
			return 1;
		css = BPF_CORE_READ(css, parent);
	}
	return 0;
}

/* Is the current thread in the wanted cgroup, or in one below it? */
static __always_inline int current_in_cgroup(void)
{
#ifdef NEW_KERNEL
	return bpf_get_current_ancestor_cgroup_id(settings.cgroup_level) == settings.cgroup;
#else
	struct task_struct *task = (void *)bpf_get_current_task();

	return in_cgroup(BPF_CORE_READ(task, cgroups, dfl_cgrp));
#endif
}

/*
 * The state has just been cleared. The current thread is no bystander of an
 * interrupt: submitting may sleep (might_sleep in submit_bio_noacct, block/blk-core.c).
 */
static __always_inline void note_submitter(struct bio_state *state, u64 now)
{
	struct submitter *submitter = &state->submitter;
	u64 pid_tgid = bpf_get_current_pid_tgid();

	state->flags = BLOCK_SUBMITTER;
	if (settings.cgroup && current_in_cgroup())
		state->flags |= BIO_IN_CGROUP;
	submitter->submit_mono_ns = now;
	submitter->cgroup = bpf_get_current_cgroup_id();
	submitter->tid = pid_tgid;
	submitter->tgid = pid_tgid >> 32;
	bpf_get_current_comm(submitter->comm, sizeof(submitter->comm));
	if (settings.contexts) {
		struct told_context told = {};

		read_thread_context(&told);
		submitter->app = told.app;
		state->app_source = told.source;
		state->app_flags = told.flags;
	}
}

/* Dirty pages belong to the cgroup that the bio is charged to, and to no span. */
static __always_inline void note_writeback(struct bio_state *state, struct bio *bio)
{
	u32 tid = state->submitter.tid;
	struct cgroup *cgroup;

	if (!bpf_map_lookup_elem(&writers, &tid))
		return;
	state->flags = BLOCK_SUBMITTER | BLOCK_WRITEBACK;
	state->submitter.cgroup = 0;
	__builtin_memset(&state->submitter.app, 0, sizeof(state->submitter.app));
	state->app_source = 0;
	state->app_flags = 0;
	if (!bpf_core_field_exists(bio->bi_blkg) || !bio->bi_blkg)
		return;
	cgroup = bio->bi_blkg->blkcg->css.cgroup;
	state->submitter.cgroup = cgroup->kn->id;
	if (settings.cgroup && in_cgroup(cgroup))
		state->flags |= BIO_IN_CGROUP;
}

/* What a thread of the loop driver submits serves its request. */
static __always_inline void note_worker(struct bio_state *state)
{
	u32 tid = state->submitter.tid;
	struct worker *worker = bpf_map_lookup_elem(&workers, &tid);
	struct request_state *request;
	u64 now = state->submitter.submit_mono_ns;

	if (!worker)
		return;
	request = find_requests(worker->request);
	if (!request || request->record.id != worker->id)
		return;
	request->children = 1;
	state->parent = request->record.id;
	state->flags = request->record.flags & (BLOCK_WRITEBACK | BLOCK_SUBMITTER | STATE_FLAGS);
	state->submitter = request->record.submitter;
	state->app_source = request->record.app_source;
	state->app_flags = request->record.app_flags;
	state->submitter.submit_mono_ns = now;
}

/* Bios that start in an upper one are to find it by their sector. */
static __always_inline void index_upper(u64 bio, const struct bio_state *state, u64 sector)
{
	struct upper_key key = {.sector = sector, .device = state->device, .tid = state->submitter.tid};
	struct upper value = {.bio = bio, .id = state->id};

	bpf_map_update_elem(&uppers, &key, &value, BPF_ANY);
	key.tid = 0;
	bpf_map_update_elem(&uppers, &key, &value, BPF_ANY);
}

static __always_inline void forget_upper(const struct bio_state *state)
{
	struct upper_key key = {.sector = state->sector, .device = state->device, .tid = state->submitter.tid};
	struct upper *value;

	bpf_map_delete_elem(&uppers, &key);
	key.tid = 0;
	value = bpf_map_lookup_elem(&uppers, &key);
	if (value && value->id == state->id)
		bpf_map_delete_elem(&uppers, &key);
	__sync_fetch_and_add(&upper_count, -1);
}

/* The device has no requests, so the bio itself is what will be reported. */
static __always_inline void make_upper(struct block_cpu_state *cpu, struct bio_state *state, struct bio *bio,
				       u64 address)
{
	state->id = new_id(cpu);
	state->sector = bio->bi_iter.bi_sector;
	state->bytes = bio->bi_iter.bi_size;
	state->device = device_number(disk_of_bio(bio));
	state->operation = bio->bi_opf;
	state->wanted = wants_operation(state->operation) && wants_device(state->device, 0) &&
			wants_submitter(&state->submitter, state->flags);
	if (state->wanted && !state->parent)
		state->flags |= unsampled_flag(state->id, state->submitter.submit_mono_ns);
	state->upper = 1;
	__sync_fetch_and_add(&upper_count, 1);
	index_upper(address, state, state->sector);
}

static __always_inline void clear_bio_state(struct bio_state *state, u64 now)
{
	CLEAR_STATE(state);
	state->claimed_mono_ns = now;
}

/* The bio comes to the block layer, in the context of who wants it. */
static __always_inline void submit_bio(struct block_cpu_state *cpu, struct bio *bio)
{
	u64 now = bpf_ktime_get_ns(), address = address_of(bio);
	struct bio_state *state = 0;

	/* A bio that was mapped from an upper one is known: see map_bio. */
	if (upper_count > 0)
		state = find_bios(address);
	if (state && state->mapped && now - state->claimed_mono_ns < MAPPED_NS) {
		state->mapped = 0;
		state->submitter.submit_mono_ns = now;
	} else {
		state = claim_bios(cpu, address, now);
		if (!state)
			return;
		clear_bio_state(state, now);
		note_submitter(state, now);
		if (writer_count > 0)
			note_writeback(state, bio);
		if (worker_count > 0)
			note_worker(state);
	}
	if (disk_of_bio(bio)->fops->submit_bio)
		make_upper(cpu, state, bio, address);
}

/* The upper bio that sector of device is being mapped from; 0 when unknown. */
static __always_inline struct bio_state *find_upper(u32 device, u64 sector)
{
	struct upper_key key = {.sector = sector, .device = device, .tid = (u32)bpf_get_current_pid_tgid()};
	struct upper *value = bpf_map_lookup_elem(&uppers, &key);
	struct bio_state *state;

	if (!value) {
		key.tid = 0;
		value = bpf_map_lookup_elem(&uppers, &key);
	}
	if (!value)
		return 0;
	state = find_bios(value->bio);
	return state && state->id == value->id ? state : 0;
}

/*
 * A driver has mapped a bio from (device, sector) to another device: a new bio
 * joins the upper one. The upper one itself, handed on as it is, stays what it
 * was until a request carries it.
 */
static __always_inline void map_bio(struct block_cpu_state *cpu, u64 bio, u32 device, u64 sector)
{
	u64 now = bpf_ktime_get_ns();
	struct bio_state *upper, *state = find_bios(bio);

	if (state)
		return;
	upper = find_upper(device, sector);
	if (!upper)
		return;
	state = claim_bios(cpu, bio, now);
	if (!state)
		return;
	clear_bio_state(state, now);
	upper->children = 1;
	state->mapped = 1;
	state->parent = upper->wanted ? upper->id : upper->parent;
	state->submitter = upper->submitter;
	state->app_source = upper->app_source;
	state->app_flags = upper->app_flags;
	state->submitter.submit_mono_ns = now;
	state->flags = upper->flags;
}

/* Where the rest of whole begins, of which the tracepoint gives 32 bits. */
static __always_inline u64 full_sector(u64 near, u32 low)
{
	return near + (u32)(low - (u32)near);
}

/*
 * part was cut from the front of whole, which goes on at a sector. Where dm has
 * trimmed its bio it reports that one itself. A part of an upper bio is found by
 * its sector when it is mapped, and never completes in sight: bio_endio goes on to
 * the whole before the tracepoint.
 */
static __always_inline void split_bio(struct block_cpu_state *cpu, u64 part, u64 whole, u64 begin, u32 rest)
{
	u64 now = bpf_ktime_get_ns(), sector = full_sector(begin, rest);
	struct bio_state *state, *source = find_bios(part);

	if (source) {
		if (source->upper)
			index_upper(part, source, sector);
		return;
	}
	source = find_bios(whole);
	if (!source)
		return;
	if (source->upper) {
		index_upper(whole, source, sector);
		return;
	}
	state = claim_bios(cpu, part, now);
	if (!state)
		return;
	clear_bio_state(state, now);
	state->submitter = source->submitter;
	state->app_source = source->app_source;
	state->app_flags = source->app_flags;
	state->insert_mono_ns = source->insert_mono_ns;
	state->flags = source->flags;
	state->parent = source->parent;
}

#endif
