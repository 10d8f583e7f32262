/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* block_programs.h - the programs, in both block objects. */
#ifndef OTEL_KPROBE_BLOCK_PROGRAMS_H
#define OTEL_KPROBE_BLOCK_PROGRAMS_H

#include "app_statements.h"
#include "block_requests.h"
#include <bpf/bpf_tracing.h>

/*
 * Argument number at of a tracepoint, 0 to 2. Each branch is a load at an offset
 * of its own, as the verifier wants it; the branches not taken are dropped.
 */
#define ARGUMENT(ctx, number) ({ u64 loaded = ctx[number]; asm volatile("" : "+r"(loaded)); loaded; })

static __always_inline void *argument(u64 *ctx, u8 at)
{
	if (at == 0)
		return (void *)ARGUMENT(ctx, 0);
	if (at == 1)
		return (void *)ARGUMENT(ctx, 1);
	return (void *)ARGUMENT(ctx, 2);
}

static __always_inline u64 next_argument(u64 *ctx, u8 at)
{
	return at == 0 ? ARGUMENT(ctx, 1) : ARGUMENT(ctx, 2);
}

static __always_inline u64 third_argument(u64 *ctx, u8 at)
{
	return at == 0 ? ARGUMENT(ctx, 2) : ARGUMENT(ctx, 3);
}

/*
 * Linux 6.1 and later do not run a program while it runs on that CPU already
 * (https://git.kernel.org/torvalds/c/05b24ff9b2cf), and requests start and end in
 * interrupts; since 7.0 (https://git.kernel.org/torvalds/c/a46023d5616e) a thread that
 * runs one is preempted by another, too. A second program at the same tracepoint is run
 * right after the first, and takes what the first was left out for.
 */
#ifdef NEW_KERNEL
#define AGAIN(name, tracepoint, handle) \
	SEC("tp_btf/" tracepoint) int name##_again(u64 *ctx) { return handle(ctx); }
#else
#define AGAIN(name, tracepoint, handle)
#endif

/* Both programs, of a handler that finds nothing to do the second time. */
#define TWICE(name, tracepoint, handle)                                        \
	SEC("tp_btf/" tracepoint) int name(u64 *ctx) { return handle(ctx); }   \
	AGAIN(name, tracepoint, handle)

/*
 * The first program of a handler that would act twice leaves the address of its object
 * in the CPU's state. Where the second does not find it there, the first was left out,
 * or another one came between the two.
 */
static __always_inline int was_seen(u64 *seen, u64 address)
{
	if (*seen != address)
		return 0;
	*seen = 0;
	return 1;
}

SEC("tp_btf/block_bio_queue")
int bio_queue(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct bio *bio = argument(ctx, settings.queue_arg);

	if (!cpu)
		return 0;
	cpu->queued = address_of(bio);
	submit_bio(cpu, bio);
	return 0;
}

static __always_inline int queue_unseen(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct bio *bio = argument(ctx, settings.queue_arg);
	u64 address = address_of(bio);
	struct bio_state *state;

	if (!cpu || was_seen(&cpu->queued, address))
		return 0;
	state = find_bios(address);
	if (!state || state->mapped)
		submit_bio(cpu, bio);
	return 0;
}

AGAIN(bio_queue, "block_bio_queue", queue_unseen)

static __always_inline int end_bio(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();

	if (cpu)
		complete_bio(cpu, argument(ctx, settings.bio_complete_arg));
	return 0;
}

TWICE(bio_complete, "block_bio_complete", end_bio)

static __always_inline int remap_bio(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	void *bio = argument(ctx, settings.remap_arg);

	if (cpu && upper_count > 0)
		map_bio(cpu, address_of(bio), next_argument(ctx, settings.remap_arg),
			third_argument(ctx, settings.remap_arg));
	return 0;
}

TWICE(bio_remap, "block_bio_remap", remap_bio)

static __always_inline int cut_bio(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct bio *part = argument(ctx, settings.split_arg);
	u32 sector = next_argument(ctx, settings.split_arg);
	u64 whole = address_of(part->bi_private);

	/* The tracepoint cuts the sector to 32 bits: a part knows where it ends. */
	if (cpu)
		split_bio(cpu, address_of(part), whole, part->bi_iter.bi_sector, sector);
	return 0;
}

TWICE(bio_split, "block_split", cut_bio)

static __always_inline int insert_request(u64 *ctx)
{
	struct request *rq = argument(ctx, settings.insert_arg);
	struct bio *bio = rq->bio;
	struct bio_state *state = find_bios(address_of(bio ? (void *)bio : (void *)rq));

	if (state && !state->insert_mono_ns)
		state->insert_mono_ns = bpf_ktime_get_ns();
	return 0;
}

TWICE(rq_insert, "block_rq_insert", insert_request)

SEC("tp_btf/block_rq_issue")
int rq_issue(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct request *rq = argument(ctx, settings.issue_arg);
	u64 address = address_of(rq);

	if (!cpu)
		return 0;
	cpu->issued = address;
	issue_request(cpu, rq, address);
	return 0;
}

static __always_inline int issue_unseen(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct request *rq = argument(ctx, settings.issue_arg);
	u64 address = address_of(rq);
	struct request_state *state;

	if (!cpu || was_seen(&cpu->issued, address))
		return 0;
	state = find_requests(address);
	if (!state || state->requeued)
		issue_request(cpu, rq, address);
	return 0;
}

AGAIN(rq_issue, "block_rq_issue", issue_unseen)

static __always_inline int give_back(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();

	if (cpu)
		requeue_request(cpu, argument(ctx, settings.requeue_arg));
	return 0;
}

TWICE(rq_requeue, "block_rq_requeue", give_back)

static __always_inline int end_request(u64 *ctx, struct block_cpu_state *cpu, struct request *rq, u64 address)
{
	struct request_state *state = find_requests(address);
	s32 status = next_argument(ctx, settings.complete_arg);

	if (!settings.status_errno)
		status &= 0xff; /* blk_status_t */
	if (state)
		complete_request(cpu, state, rq, status, third_argument(ctx, settings.complete_arg));
	else if (settings.bios)
		complete_unissued(cpu, rq, status);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int rq_complete(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct request *rq = argument(ctx, settings.complete_arg);
	u64 address = address_of(rq);

	if (!cpu)
		return 0;
	cpu->completed = address;
	return end_request(ctx, cpu, rq, address);
}

static __always_inline int end_unseen(u64 *ctx)
{
	struct block_cpu_state *cpu = this_cpu_state();
	struct request *rq = argument(ctx, settings.complete_arg);
	u64 address = address_of(rq);

	if (!cpu || was_seen(&cpu->completed, address))
		return 0;
	return end_request(ctx, cpu, rq, address);
}

AGAIN(rq_complete, "block_rq_complete", end_unseen)

static __always_inline int begin_writeback(u64 *ctx)
{
	u32 tid = bpf_get_current_pid_tgid(), one = 1;

	if (!bpf_map_update_elem(&writers, &tid, &one, BPF_NOEXIST))
		__sync_fetch_and_add(&writer_count, 1);
	return 0;
}

TWICE(writeback_begin, "writeback_start", begin_writeback)

static __always_inline int end_writeback(u64 *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();

	if (!bpf_map_delete_elem(&writers, &tid))
		__sync_fetch_and_add(&writer_count, -1);
	return 0;
}

TWICE(writeback_end, "writeback_written", end_writeback)

/*
 * A request that is passed through to the driver has no bio that was submitted.
 * In Linux 5.10 blk_execute_rq calls blk_execute_rq_nowait: one entry serves both.
 */
static __always_inline int execute(u64 rq)
{
	struct block_cpu_state *cpu = this_cpu_state();
	u64 now = bpf_ktime_get_ns();
	struct bio_state *state = find_bios(rq);

	if (!cpu)
		return 0;
	if (!state)
		state = claim_bios(cpu, rq, now);
	if (!state)
		return 0;
	clear_bio_state(state, now);
	note_submitter(state, now);
	return 0;
}

SEC("fentry/blk_execute_rq")
int execute_wait(u64 *ctx)
{
	return execute(address_of(argument(ctx, settings.execute_arg)));
}

SEC("fentry/blk_execute_rq_nowait")
int execute_nowait(u64 *ctx)
{
	return execute(address_of(argument(ctx, settings.execute_arg)));
}

/*
 * The loop driver serves a request in a thread of its own: what that submits
 * until the return belongs to the request. Its struct loop_cmd lies behind the
 * request, and which register has it the compiler decides (lo_rw_aio.isra.0), so
 * the one is taken behind a request that is in flight.
 */
static __always_inline struct request_state *loop_request(u64 command)
{
	return find_requests(command - bpf_core_type_size(struct request));
}

SEC("kprobe/loop_begin")
int loop_begin(struct pt_regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct request_state *state = loop_request(PT_REGS_PARM1(ctx));
	struct worker worker = {};

	if (!state)
		state = loop_request(PT_REGS_PARM2(ctx));
	if (!state)
		state = loop_request(PT_REGS_PARM3(ctx));
	if (!state)
		return 0;
	worker.request = state->key;
	worker.id = state->record.id;
	if (!bpf_map_update_elem(&workers, &tid, &worker, BPF_NOEXIST))
		__sync_fetch_and_add(&worker_count, 1);
	return 0;
}

SEC("kretprobe/loop_end")
int loop_end(struct pt_regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();

	if (!bpf_map_delete_elem(&workers, &tid))
		__sync_fetch_and_add(&worker_count, -1);
	return 0;
}

SEC("kprobe/application_statement")
int application_statement(struct pt_regs *ctx)
{
	take_goroutine(ctx);
	return 0;
}

/* Only used through a pointer: named here so that bpf2go finds it in the BTF. */
const struct block_record *block_record_type __attribute__((unused));

char _license[] SEC("license") = "Dual BSD/GPL";

#endif
