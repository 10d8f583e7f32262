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

/*
 * What there is changes in place: the kernel may refuse to put an entry into a map, or to
 * take it out, when it does not get the lock in time
 * (https://mail.spinics.net/lists/bpf/msg134309.html). Readers see no span meanwhile.
 */
static __always_inline void change_context(struct told_context *known, const struct told_context *told)
{
	known->source = 0;
	barrier();
	known->app = told->app;
	known->flags = told->flags;
	known->side = told->side;
	known->ports = told->ports;
	barrier();
	known->source = told->source;
}

static __always_inline void count_lost(long failed)
{
	if (failed)
		__sync_fetch_and_add(&statements_lost, 1);
}

/* The span that a statement is of. */
static __always_inline void read_statement(struct pt_regs *ctx, struct told_context *told)
{
	__u64 *ids = (__u64 *)&told->app;

	ids[0] = ctx->rbx;
	ids[1] = ctx->rcx;
	ids[2] = ctx->rdi;
	told->source = APP_HELPER;
	told->flags = ctx->rax & STATEMENT_UNSAMPLED ? APP_UNSAMPLED : 0;
}

static __always_inline void take_span_start(struct pt_regs *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct goroutine key = {.g = ctx->r14, .tgid = tgid};
	struct started_span span = {.span_id = ctx->rdi, .tgid = tgid};
	struct told_context told = {}, *known;

	applications_seen = 1;
	read_statement(ctx, &told);
	known = bpf_map_lookup_elem(&goroutine_contexts, &key);
	if (known)
		change_context(known, &told);
	else
		count_lost(bpf_map_update_elem(&goroutine_contexts, &key, &told, BPF_ANY));
	count_lost(bpf_map_update_elem(&span_goroutines, &span, &key.g, BPF_ANY));
}

/*
 * Puts the goroutine where the span started back into the parent, if that started
 * there too, else into none; but not when another span has started there meanwhile.
 */
static __always_inline void take_span_end(struct pt_regs *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct started_span span = {.span_id = ctx->rdi, .tgid = tgid};
	struct started_span parent = {.span_id = ctx->rsi, .tgid = tgid};
	__u64 *g = bpf_map_lookup_elem(&span_goroutines, &span), *of_parent;
	struct goroutine key = {.g = ctx->r14, .tgid = tgid};
	struct told_context *told;

	barrier_var(key.g); /* else the context's address is computed, which the verifier refuses */
	if (g)
		key.g = *g;
	bpf_map_delete_elem(&span_goroutines, &span);
	told = bpf_map_lookup_elem(&goroutine_contexts, &key);
	if (!told || *(__u64 *)told->app.span_id != span.span_id)
		return;
	of_parent = parent.span_id ? bpf_map_lookup_elem(&span_goroutines, &parent) : 0;
	if (of_parent && *of_parent == key.g) {
		*(__u64 *)told->app.span_id = parent.span_id;
	} else {
		told->source = 0;
		bpf_map_delete_elem(&goroutine_contexts, &key);
	}
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
