/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* block_requests.h - requests from their issue to their completion. */
#ifndef OTEL_KPROBE_BLOCK_REQUESTS_H
#define OTEL_KPROBE_BLOCK_REQUESTS_H

#include "block_histogram.h"
#include "block_take.h"

#define MAX_REQUEUES 16 /* of one request, that are reported each */

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
	record->flags = unsampled_flag(record->id, now);
	record->device = device;
	if (!settings.records)
		return;
	record->sector = rq->__sector;
	record->partition = part != device ? part : 0;
	record->bytes = rq->__data_len;
	record->io_priority = priority_of(rq);
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
	if (!settings.records || state->record.requeues > MAX_REQUEUES || state->record.flags & BIO_UNSAMPLED)
		return;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		COUNT(cpu->ring_full);
		return;
	}
	*record = state->record;
	record->kind = RECORD_REQUEUE;
	record->flags &= ~STATE_FLAGS;
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
	if (!settings.records || latency < settings.min_latency_ns)
		return;
	if (record->flags & BIO_UNSAMPLED)
		COUNT(cpu->unsampled);
	else
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
		record.flags |= unsampled_flag(record.id, state->submitter.submit_mono_ns);
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
	record.flags = unsampled_flag(record.id, state->submitter.submit_mono_ns);
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
