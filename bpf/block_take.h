/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* block_take.h - what a request takes over from its bios when it is issued. */
#ifndef OTEL_KPROBE_BLOCK_TAKE_H
#define OTEL_KPROBE_BLOCK_TAKE_H

#include "block_bios.h"

/* Bios of one request behind the first that are looked at. */
#ifdef NEW_KERNEL
#define MAX_BIOS 1024
#else
#define MAX_BIOS 64
#endif
#define MAX_FLUSH_WAITERS 8

/* Calls callback(number, context) for up to MAX_BIOS bios, until it returns 1. */
#ifdef NEW_KERNEL
#define EACH_BIO(callback, context) bpf_loop(MAX_BIOS, callback, context, 0)
#else
#define EACH_BIO(callback, context)                  \
	do {                                         \
		u32 number;                          \
                                                     \
		for (number = 0; number < MAX_BIOS; number++) \
			if (callback(number, context)) \
				break;               \
	} while (0)
#endif

static __always_inline void send_record(struct block_cpu_state *cpu, const struct block_record *from)
{
	struct block_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		COUNT(cpu->ring_full);
		return;
	}
	*record = *from;
	record->flags &= ~STATE_FLAGS;
	if (record->kind <= RECORD_BIO)
		COUNT(cpu->submitted);
	bpf_ringbuf_submit(record, wakeup_flag(&cpu->since_query, settings.wakeup_bytes));
}

/* What the request takes over from the bio that it begins with. With a parent it goes as that. */
static __always_inline void take_submitter(struct block_record *record, const struct bio_state *state)
{
	record->submitter = state->submitter;
	record->app_source = state->app_source;
	record->app_flags = state->app_flags;
	if (state->parent)
		record->flags &= ~BIO_UNSAMPLED;
	record->flags |= state->flags;
	record->parent = state->parent;
	if (!record->insert_mono_ns)
		record->insert_mono_ns = state->insert_mono_ns;
}

/* One more bio of a request, or one more waiter of a flush. */
static __always_inline void send_merge(struct block_cpu_state *cpu, const struct block_record *record,
				       const struct bio_state *state, u64 bio, u8 flags)
{
	struct block_record *merge;

	if (record->flags & BIO_UNSAMPLED)
		return;
	merge = bpf_ringbuf_reserve(&ring, sizeof(*merge), 0);
	if (!merge) {
		COUNT(cpu->ring_full);
		return;
	}
	__builtin_memset(merge, 0, sizeof(*merge));
	merge->kind = RECORD_MERGE;
	merge->flags = flags | (state->flags & ~STATE_FLAGS);
	merge->id = record->id;
	merge->address = bio;
	merge->device = record->device;
	merge->operation = record->operation;
	merge->insert_mono_ns = state->insert_mono_ns;
	merge->issue_mono_ns = record->issue_mono_ns;
	merge->sector = BPF_CORE_READ((struct bio *)bio, bi_iter.bi_sector);
	merge->bytes = BPF_CORE_READ((struct bio *)bio, bi_iter.bi_size);
	merge->submitter = state->submitter;
	merge->app_source = state->app_source;
	merge->app_flags = state->app_flags;
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
	record->app_source = state->app_source;
	record->app_flags = state->app_flags;
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
	if (state->flags & BIO_UNSAMPLED) {
		COUNT(cpu->unsampled);
		return;
	}
	record->flags &= ~BIO_UNSAMPLED;
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

static __always_inline int same_context(const struct app_context *a, const struct app_context *b)
{
	const u64 *of_a = (const u64 *)a, *of_b = (const u64 *)b;

	return of_a[0] == of_b[0] && of_a[1] == of_b[1] && of_a[2] == of_b[2];
}

/* In the same span of its application, too: a thread may go from one to the next. */
static __always_inline int same_submitter(const struct submitter *a, const struct submitter *b)
{
	return a->tid == b->tid && a->cgroup == b->cgroup && same_context(&a->app, &b->app);
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

	EACH_BIO(take_next, &list);
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

	EACH_BIO(forget_next, &bio);
	passed = find_bios(rq);
	if (passed)
		release_bios(passed, rq);
}

#endif
