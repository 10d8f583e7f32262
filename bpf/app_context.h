/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * app_context.h - which span of its application a thread is in, in all objects.
 *
 * Two tell it: the application itself, by the package otelkprobe (app_statements.h), and
 * instrumentation of others, in the pinned map traces_ctx_v1
 * (https://github.com/open-telemetry/opentelemetry-specification/pull/4855). That map
 * is not ours: the OpenTelemetry eBPF Instrumentation writes it first of all. User
 * space puts the pinned map in the place of this one (bpf.OpenContexts).
 */
#ifndef OTEL_KPROBE_APP_CONTEXT_H
#define OTEL_KPROBE_APP_CONTEXT_H

#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define MAX_GOROUTINES 16384
#define THREAD_STACK_BYTES 16384 /* THREAD_SIZE of x86-64 without KASAN */

/* A span, as on the wire of W3C trace context; all zero: none. */
struct app_context {
	__u8 trace_id[16];
	__u8 span_id[8];
};

/* Who told which span something belongs to: event.AppSource. */
enum app_source {
	APP_THREAD = 1, /* traces_ctx_v1 */
	APP_HELPER = 2, /* the package otelkprobe */
	/* 3 and 4 are user space's own. */
};

/* Flags of a span: event.AppFlags. */
enum app_flag {
	APP_UNSAMPLED = 1 << 0,
};

/* Which side of a connection has bound its socket to a span. */
enum app_side {
	SIDE_ASKS = 1,
	SIDE_ANSWERS = 2,
	SIDE_ANSWERED = 3, /* the span has ended: only what is still written counts */
};

/* A span and who told it. */
struct told_context {
	struct app_context app;
	__u8 source; /* enum app_source, 0: none, and the rest means nothing */
	__u8 flags;  /* enum app_flag */
	__u8 side;   /* enum app_side, 0: not by a socket */
	__u8 pad;
	__u32 ports; /* of a socket: see is_of_connection */
};

/* Constant to the verifier. */
struct app_settings {
	__u8 has_task_regs; /* bpf_task_pt_regs works in every program type (5.15+) */
	__u8 pad[7];
};

const volatile struct app_settings app_settings = {};

/* The layout is the interface's; a later version may have longer values. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 14);
	__type(key, __u64); /* bpf_get_current_pid_tgid() of the thread */
	__type(value, struct app_context);
} traces_ctx_v1 SEC(".maps");

/* A goroutine, by the address of its struct g. */
struct goroutine {
	__u64 g;
	__u32 tgid;
	__u32 pad;
};

/* LRU: a full map forgets the goroutine that stated nothing for longest. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_GOROUTINES);
	__type(key, struct goroutine);
	__type(value, struct told_context);
} goroutine_contexts SEC(".maps");

/* Has any application told of a span? Zero saves everybody the look-ups. */
__u32 applications_seen = 0;

/* Statements that the kernel did not keep. */
__u64 statements_lost = 0;

struct task_struct___user {
	void *stack;
	void *mm;
} __attribute__((preserve_access_index));

/*
 * The registers with which the current thread came into the kernel; 0 when it has
 * never been outside. Without the helper (5.10) they stand at the end of its stack.
 */
static __always_inline __u64 user_registers(void)
{
	struct task_struct___user *task = (void *)bpf_get_current_task();

	if (!BPF_CORE_READ(task, mm))
		return 0;
	if (app_settings.has_task_regs)
		return (__u64)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	return (__u64)BPF_CORE_READ(task, stack) + THREAD_STACK_BYTES - sizeof(struct pt_regs);
}

/*
 * The span of the goroutine that the current thread runs. Go keeps its address in
 * R14, across system calls too
 * (https://go.dev/s/regabi, "Special-purpose registers").
 */
static __always_inline struct told_context *goroutine_context(__u64 thread)
{
	struct goroutine key = {.tgid = thread >> 32};
	__u64 registers = user_registers();

	if (!registers)
		return 0;
	bpf_probe_read_kernel(&key.g, sizeof(key.g), (void *)(registers + __builtin_offsetof(struct pt_regs, r14)));
	return bpf_map_lookup_elem(&goroutine_contexts, &key);
}

/*
 * The span that the current thread is in; told has been cleared, and stays so when it
 * is in none. It means something where a thread works for itself, in a system call:
 * not in an interrupt.
 */
static __always_inline void read_thread_context(struct told_context *told)
{
	__u64 thread = bpf_get_current_pid_tgid();
	const struct told_context *stated = 0;
	const struct app_context *known;

	if (applications_seen)
		stated = goroutine_context(thread);
	if (stated && stated->source) {
		*told = *stated;
		return;
	}
	known = bpf_map_lookup_elem(&traces_ctx_v1, &thread);
	if (!known)
		return;
	told->app = *known;
	told->source = APP_THREAD;
}

#endif
