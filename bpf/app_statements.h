/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * app_statements.h - what an application states of its spans, in all objects: user space puts
 * these programs on the function noteV1 of the package otelkprobe, whose arguments are
 * where Go's register ABI has them (https://go.dev/s/regabi).
 */
#ifndef OTEL_KPROBE_APP_STATEMENTS_H
#define OTEL_KPROBE_APP_STATEMENTS_H

#include "app_context.h"

/* What is stated: the low byte of the first argument. */
enum app_statement {
	SPAN_STARTS = 1, /* in the current goroutine */
	SPAN_ENDS = 2,
	SOCKET_ASKS = 3,     /* the socket belongs to the span, which asks something over it */
	SOCKET_ANSWERED = 4, /* … which has ended: only what is still written counts */
	SOCKET_FREE = 5,     /* it belongs to none */
	SOCKET_ANSWERS = 6,  /* it belongs to the span, which answers over it */
};

#define STATEMENT_KIND 0xff
#define STATEMENT_UNSAMPLED (1 << 8)

/* A span that has started, by its id. */
struct started_span {
	__u64 span_id;
	__u32 tgid;
	__u32 pad;
};

/* In which goroutine a span started: it may end in another one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_GOROUTINES);
	__type(key, struct started_span);
	__type(value, __u64);
} span_goroutines SEC(".maps");

const struct told_context no_context = {};

/*
 * What follows is not inlined, so that each function has less than 64 bytes on the stack.
 * A larger frame is in memory of the CPU, since Linux 6.13
 * (https://git.kernel.org/torvalds/c/a76ab5731e32), and the program of a uprobe shares it
 * with that of another thread by which it is preempted there.
 */

/*
 * Writes the span that a statement is of. What there is changes in place: the kernel may
 * refuse to put an entry into a map, or to take it out, when it does not get the lock in
 * time (https://mail.spinics.net/lists/bpf/msg134309.html). Readers see no span meanwhile.
 */
static __noinline int change_context(struct pt_regs *ctx, struct told_context *known, __u32 side, __u32 ports)
{
	__u64 *ids;

	if (!known) {
		__sync_fetch_and_add(&statements_lost, 1);
		return 0;
	}
	ids = (__u64 *)&known->app;
	known->source = 0;
	barrier();
	ids[0] = ctx->rbx;
	ids[1] = ctx->rcx;
	ids[2] = ctx->rdi;
	known->flags = ctx->rax & STATEMENT_UNSAMPLED ? APP_UNSAMPLED : 0;
	known->side = side;
	known->ports = ports;
	barrier();
	known->source = APP_HELPER;
	return 0;
}

/* The entry of a key, which is made if there is none; NULL: the kernel refuses. */
static __always_inline struct told_context *entry_of(void *contexts, const void *key)
{
	struct told_context *known = bpf_map_lookup_elem(contexts, key);

	if (known)
		return known;
	bpf_map_update_elem(contexts, key, &no_context, BPF_NOEXIST);
	return bpf_map_lookup_elem(contexts, key);
}

/* The goroutine in which a span of the current process started, 0: it is not known. */
static __noinline __u64 goroutine_of(__u64 span_id)
{
	struct started_span span = {.span_id = span_id, .tgid = bpf_get_current_pid_tgid() >> 32};
	__u64 *g = bpf_map_lookup_elem(&span_goroutines, &span);

	return g ? *g : 0;
}

/* Notes the goroutine in which a span starts, 0: it has ended. */
static __noinline int note_span(__u64 span_id, __u64 g)
{
	struct started_span span = {.span_id = span_id, .tgid = bpf_get_current_pid_tgid() >> 32};

	if (!g)
		bpf_map_delete_elem(&span_goroutines, &span);
	else if (bpf_map_update_elem(&span_goroutines, &span, &g, BPF_ANY))
		__sync_fetch_and_add(&statements_lost, 1);
	return 0;
}

static __noinline int take_span_start(struct pt_regs *ctx)
{
	struct goroutine key = {.g = ctx->r14, .tgid = bpf_get_current_pid_tgid() >> 32};

	applications_seen = 1;
	change_context(ctx, entry_of(&goroutine_contexts, &key), 0, 0);
	note_span(ctx->rdi, key.g);
	return 0;
}

/*
 * Puts the goroutine where the span started back into the parent, if that started
 * there too, else into none; but not when another span has started there meanwhile.
 */
static __noinline int take_span_end(struct pt_regs *ctx)
{
	struct goroutine key = {.tgid = bpf_get_current_pid_tgid() >> 32};
	__u64 span_id = ctx->rdi, parent_id = ctx->rsi, g = goroutine_of(span_id);
	struct told_context *told;

	if (!g)
		g = ctx->r14;
	note_span(span_id, 0);
	key.g = g;
	told = bpf_map_lookup_elem(&goroutine_contexts, &key);
	if (!told || *(__u64 *)told->app.span_id != span_id)
		return 0;
	if (parent_id && goroutine_of(parent_id) == g) {
		*(__u64 *)told->app.span_id = parent_id;
	} else {
		told->source = 0;
		bpf_map_delete_elem(&goroutine_contexts, &key);
	}
	return 0;
}

/* What concerns goroutines; false when the statement is about a socket. */
static __always_inline int take_goroutine(struct pt_regs *ctx)
{
	switch (ctx->rax & STATEMENT_KIND) {
	case SPAN_STARTS:
		take_span_start(ctx);
		return 1;
	case SPAN_ENDS:
		take_span_end(ctx);
		return 1;
	}
	return 0;
}

#endif
