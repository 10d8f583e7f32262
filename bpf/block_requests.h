/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* block_requests.h - requests from their issue to their completion. */
#ifndef OTEL_KPROBE_BLOCK_REQUESTS_H
#define OTEL_KPROBE_BLOCK_REQUESTS_H

#include "block_bios.h"
#include "block_histogram.h"

/* Bios of one request behind the first that are looked at. */
#ifdef NEW_KERNEL
#define MAX_BIOS 1024
#else
#define MAX_BIOS 64
#endif
#define MAX_FLUSH_WAITERS 8
#define MAX_REQUEUES 16 /* of one request, that are reported each */

static __always_inline void send_record(struct block_cpu_state *cpu, const struct block_record *from)
{
	struct block_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		cpu->ring_full++;
		return;
	}
	*record = *from;
	record->flags &= ~BIO_IN_CGROUP;
	if (record->kind <= RECORD_BIO)
		cpu->submitted++;
	bpf_ringbuf_submit(record, wakeup_flag(&cpu->since_query, settings.wakeup_bytes));
}

/* What the request takes over from the bio that it begins with. */
static __always_inline void take_submitter(struct block_record *record, const struct bio_state *state)
{
	record->submitter = state->submitter;
	record->flags |= state->flags;
	record->parent = state->parent;
	if (!record->insert_mono_ns)
		record->insert_mono_ns = state->insert_mono_ns;
}

/* One more bio of a request, or one more waiter of a flush. */
static __always_inline void send_merge(struct block_cpu_state *cpu, const struct block_record *record,
				       const struct bio_state *state, u64 bio, u8 flags)
{
	struct block_record *merge = bpf_ringbuf_reserve(&ring, sizeof(*merge), 0);

	if (!merge) {
		cpu->ring_full++;
		return;
	}
	__builtin_memset(merge, 0, sizeof(*merge));
	merge->kind = RECORD_MERGE;
	merge->flags = flags | (state->flags & ~BIO_IN_CGROUP);
	merge->id = record->id;
	merge->address = bio;
	merge->device = record->device;
	merge->operation = record->operation;
	merge->insert_mono_ns = state->insert_mono_ns;
	merge->issue_mono_ns = record->issue_mono_ns;
	merge->sector = BPF_CORE_READ((struct bio *)bio, bi_iter.bi_sector);
	merge->bytes = BPF_CORE_READ((struct bio *)bio, bi_iter.bi_size);
	merge->submitter = state->submitter;
	bpf_ringbuf_submit(merge, wakeup_flag(&cpu->since_query, settings.wakeup_bytes));
}

static __always_inline void fill_upper(struct block_record *record, const struct bio_state *state, u64 bio)
{
	record->kind = RECORD_BIO;
	record->flags = state->flags;
	record->operation = state->operation;
	record->id = state->id;
	record->parent = state->parent;
	record->address = bio;
	record->sector = state->sector;
	record->submitter = state->submitter;
	record->device = state->device;
	record->bytes = state->bytes;
	record->bios = 1;
}

/*
 * An upper bio that was handed on as it is ends with the request that carries
 * it: it is reported now, without its end.
 */
static __always_inline void adopt_upper(struct block_cpu_state *cpu, struct block_record *record,
					const struct bio_state *state, u64 bio)
{
	struct block_record upper = {};

	forget_upper(state);
	if (!state->wanted || !settings.records)
		return;
	record->parent = state->id;
	record->flags |= BLOCK_ENDS_PARENT;
	fill_upper(&upper, state, bio);
	send_record(cpu, &upper);
}

/* The submission of a bio, or of a request without one, ends here. */
static __always_inline int take_first(struct block_cpu_state *cpu, struct block_record *record, u64 address)
{
	struct bio_state *state = find_bios(address);

	if (!state)
		return 0;
	take_submitter(record, state);
	if (state->upper)
		adopt_upper(cpu, record, state, address);
	release_bios(state, address);
	return 1;
}

static __always_inline int same_submitter(const struct submitter *a, const struct submitter *b)
{
	return a->tid == b->tid && a->cgroup == b->cgroup;
}

/* The bios of a request behind the first one, walked one a call. */
struct merged_bios {
	struct request_state *request;
	u64 next;
};

/* Takes the next one over; 1 at the end of the list. */
static __noinline long take_next(u32 number, struct merged_bios *list)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct request_state *request = list->request;
	struct block_record *record = &request->record;
	u64 bio = list->next;
	struct bio_state *state;

	if (!cpu || !bio)
		return 1;
	list->next = (u64)BPF_CORE_READ((struct bio *)bio, bi_next);
	record->bios++;
	state = find_bios(bio);
	if (!state)
		return 0;
	if (!record->insert_mono_ns)
		record->insert_mono_ns = state->insert_mono_ns;
	if (!(record->flags & BLOCK_SUBMITTER))
		take_submitter(record, state);
	else if (settings.records && !same_submitter(&state->submitter, &record->submitter))
		send_merge(cpu, record, state, bio, BLOCK_MERGED);
	if (state->upper)
		forget_upper(state);
	release_bios(state, bio);
	return 0;
}

static __always_inline void take_merged(struct request_state *request, u64 bio)
{
	struct merged_bios list = {.request = request, .next = bio};

#ifdef NEW_KERNEL
	bpf_loop(MAX_BIOS, take_next, &list, 0);
#else
	u32 i;

	for (i = 0; i < MAX_BIOS; i++)
		if (take_next(i, &list))
			break;
#endif
}

static __always_inline struct request *request_of_flush_list(struct list_head *entry)
{
	struct request___flush_list *old = 0;

	if (bpf_core_field_exists(old->flush.list))
		return (void *)entry - bpf_core_field_offset(old->flush.list);
	return (void *)entry - bpf_core_field_offset(struct request, queuelist);
}

/*
 * The request that flushes the disk's cache is the flush machinery's own and has
 * no bio. Who waits for it stands in a list of its queue
 * (block/blk-flush.c): the first is the submitter, the others are merged.
 */
static __always_inline void take_flush_waiters(struct block_cpu_state *cpu, struct request_state *request,
					       struct request *rq)
{
	struct blk_flush_queue *queue = BPF_CORE_READ(rq, mq_hctx, fq);
	struct list_head *head, *entry;
	u32 running, i;

	if (!queue)
		return;
	running = BPF_CORE_READ_BITFIELD_PROBED(queue, flush_running_idx);
	head = (void *)queue + bpf_core_field_offset(struct blk_flush_queue, flush_queue) +
	       (running & 1) * sizeof(struct list_head);
	entry = BPF_CORE_READ(head, next);
	for (i = 0; i < MAX_FLUSH_WAITERS && entry && entry != head; i++) {
		u64 bio = (u64)BPF_CORE_READ(request_of_flush_list(entry), bio);
		struct bio_state *state = find_bios(bio);

		if (state && !(request->record.flags & BLOCK_SUBMITTER))
			take_submitter(&request->record, state);
		else if (state && settings.records)
			send_merge(cpu, &request->record, state, bio, 0);
		entry = BPF_CORE_READ(entry, next);
	}
}

static __always_inline void take_bios(struct block_cpu_state *cpu, struct request_state *state, struct request *rq)
{
	struct block_record *record = &state->record;
	struct bio *bio = rq->bio;

	if (bio) {
		record->bios = 1;
		take_first(cpu, record, address_of(bio));
		if (bio->bi_next)
			take_merged(state, address_of(bio->bi_next));
	} else if ((record->operation & OPERATION_MASK) == OPERATION_FLUSH) {
		take_flush_waiters(cpu, state, rq);
	}
	/* Nothing was submitted as a bio: it was passed through. */
	if (!(record->flags & BLOCK_SUBMITTER))
		take_first(cpu, record, record->address);
}

static __always_inline void fill_request(struct block_cpu_state *cpu, struct request_state *state,
					 struct request *rq, u64 address, u32 device, u32 part, u64 now)
{
	struct block_record *record = &state->record;

	CLEAR_STATE(state);
	state->attempt_mono_ns = now;
	record->kind = RECORD_REQUEST;
	record->operation = rq->cmd_flags;
	record->id = new_id(cpu);
	record->address = address;
	record->issue_mono_ns = now;
	record->device = device;
	if (!settings.records)
		return;
	record->sector = rq->__sector;
	record->partition = part != device ? part : 0;
	record->bytes = rq->__data_len;
	record->io_priority = priority_of(rq);
}

/* Forgets a bio of a request that nobody wants; 1 at the end of the list. */
static __noinline long forget_next(u32 number, u64 *next)
{
	u64 bio = *next;
	struct bio_state *state;

	if (!bio)
		return 1;
	*next = (u64)BPF_CORE_READ((struct bio *)bio, bi_next);
	state = find_bios(bio);
	if (!state)
		return 0;
	if (state->upper)
		forget_upper(state);
	release_bios(state, bio);
	return 0;
}

static __always_inline void forget_bios(u64 bio, u64 rq)
{
	struct bio_state *passed;

#ifdef NEW_KERNEL
	bpf_loop(MAX_BIOS, forget_next, &bio, 0);
#else
	u32 i;

	for (i = 0; i < MAX_BIOS; i++)
		if (forget_next(i, &bio))
			break;
#endif
	passed = find_bios(rq);
	if (passed)
		release_bios(passed, rq);
}

/* Gives the request up that no filter wants; its bios have been forgotten. */
static __always_inline int refuse_request(struct request_state *state)
{
	const struct block_record *record = &state->record;

	if (wants_submitter(&record->submitter, record->flags))
		return 0;
	release_requests(state, record->address);
	return 1;
}

static __always_inline void issue_request(struct block_cpu_state *cpu, struct request *rq, u64 address)
{
	struct request_state *state = 0;
	u64 now = bpf_ktime_get_ns();
	u32 device, part = 0;

	if (requeued_count > 0)
		state = find_requests(address);
	if (state && state->requeued) {
		state->requeued = 0;
		state->attempt_mono_ns = now;
		__sync_fetch_and_add(&requeued_count, -1);
		return;
	}
	device = device_number(disk_of_request(rq));
	if (settings.device_count || settings.records)
		part = part_of_request(rq);
	if (!wants_operation(rq->cmd_flags) || !wants_device(device, part)) {
		if (settings.bios)
			forget_bios(address_of(rq->bio), address);
		return;
	}
	state = claim_requests(cpu, address, now);
	if (!state)
		return;
	fill_request(cpu, state, rq, address, device, part, now);
	if (settings.bios) {
		take_bios(cpu, state, rq);
		refuse_request(state);
	}
}

static __always_inline void requeue_request(struct block_cpu_state *cpu, struct request *rq)
{
	struct request_state *state = find_requests(address_of(rq));
	struct block_record *record;

	if (!state || state->requeued)
		return;
	state->requeued = 1;
	state->record.requeues++;
	__sync_fetch_and_add(&requeued_count, 1);
	if (!settings.records || state->record.requeues > MAX_REQUEUES)
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		cpu->ring_full++;
		return;
	}
	*record = state->record;
	record->kind = RECORD_REQUEUE;
	record->flags &= ~BIO_IN_CGROUP;
	record->issue_mono_ns = state->attempt_mono_ns;
	record->complete_mono_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(record, wakeup_flag(&cpu->since_query, settings.wakeup_bytes));
}

/* Reports what has ended, and counts how long it took. */
static __always_inline void report(struct block_cpu_state *cpu, struct block_record *record, u64 begin_mono_ns,
				   u8 has_children)
{
	u64 latency = record->complete_mono_ns - begin_mono_ns;

	/* One I/O counts once, except by device: each device has its own. */
	if (settings.histogram && record->issue_mono_ns | (record->kind == RECORD_BIO) &&
	    (settings.by == BY_DEVICE || !has_children))
		count_latency(record, latency);
	if (settings.records && latency >= settings.min_latency_ns)
		send_record(cpu, record);
}

static __always_inline void complete_request(struct block_cpu_state *cpu, struct request_state *state,
					     struct request *rq, s32 status, u32 bytes)
{
	struct block_record *record = &state->record;

	record->done += bytes;
	if (status)
		record->status = status;
	if (bytes < rq->__data_len)
		return; /* the rest is to come */
	record->cpu = bpf_get_smp_processor_id();
	record->complete_mono_ns = bpf_ktime_get_ns();
	if (settings.status_errno)
		record->flags |= BLOCK_ERRNO;
	if (state->requeued)
		__sync_fetch_and_add(&requeued_count, -1);
	report(cpu, record, record->issue_mono_ns, state->children);
	release_requests(state, record->address);
}

/*
 * The request was never issued: it failed before, or was an empty flush, whose
 * work another request has done, or is not wanted.
 */
static __always_inline void complete_unissued(struct block_cpu_state *cpu, struct request *rq, s32 status)
{
	u64 address = address_of(rq->bio ? (void *)rq->bio : (void *)rq);
	struct bio_state *state = find_bios(address);
	struct block_record record = {};

	if (!state)
		return;
	if (status && !state->upper && wants_operation(rq->cmd_flags) &&
	    wants_device(device_number(disk_of_request(rq)), part_of_request(rq)) &&
	    wants_submitter(&state->submitter, state->flags)) {
		record.kind = RECORD_REQUEST;
		record.cpu = bpf_get_smp_processor_id();
		record.operation = rq->cmd_flags;
		record.id = new_id(cpu);
		record.address = address_of(rq);
		record.complete_mono_ns = bpf_ktime_get_ns();
		record.sector = rq->__sector;
		record.device = device_number(disk_of_request(rq));
		record.bytes = rq->__data_len;
		record.bios = 1;
		record.status = status;
		record.flags = settings.status_errno ? BLOCK_ERRNO : 0;
		take_submitter(&record, state);
		report(cpu, &record, state->submitter.submit_mono_ns, 0);
	}
	if (state->upper)
		forget_upper(state);
	release_bios(state, address);
}

static __always_inline void complete_upper(struct block_cpu_state *cpu, const struct bio_state *state, u64 bio,
					   u8 status)
{
	struct block_record record = {};

	if (!state->wanted)
		return;
	fill_upper(&record, state, bio);
	record.cpu = bpf_get_smp_processor_id();
	record.complete_mono_ns = bpf_ktime_get_ns();
	record.done = status ? 0 : record.bytes;
	record.status = status;
	report(cpu, &record, state->submitter.submit_mono_ns, state->children);
}

/* A bio that failed before it became part of a request. */
static __always_inline void fail_bio(struct block_cpu_state *cpu, const struct bio_state *state, struct bio *bio,
				     u8 status)
{
	struct block_record record = {};

	record.operation = bio->bi_opf;
	record.device = device_number(disk_of_bio(bio));
	if (!wants_operation(record.operation) || !wants_device(record.device, 0) ||
	    !wants_submitter(&state->submitter, state->flags))
		return;
	record.kind = RECORD_BIO;
	record.cpu = bpf_get_smp_processor_id();
	record.id = new_id(cpu);
	record.address = state->key;
	record.complete_mono_ns = bpf_ktime_get_ns();
	record.sector = bio->bi_iter.bi_sector;
	record.bytes = bio->bi_iter.bi_size;
	record.bios = 1;
	record.status = status;
	take_submitter(&record, state);
	report(cpu, &record, state->submitter.submit_mono_ns, 0);
}

/* A bio of a device without requests has ended, or one that got no request. */
static __always_inline void complete_bio(struct block_cpu_state *cpu, struct bio *bio)
{
	u64 address = address_of(bio);
	struct bio_state *state = find_bios(address);
	u8 status;

	if (!state)
		return;
	status = bio->bi_status;
	if (state->upper) {
		complete_upper(cpu, state, address, status);
		forget_upper(state);
	} else if (status) {
		fail_bio(cpu, state, bio, status);
	}
	release_bios(state, address);
}

#endif
