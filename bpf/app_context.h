/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * app_context.h - which span of its application a thread is in, as instrumentation
 * publishes it in the pinned map traces_ctx_v1
 * (https://github.com/open-telemetry/opentelemetry-specification/pull/4855).
 *
 * Not ours: others write it, the OpenTelemetry eBPF Instrumentation first of all.
 * User space puts the pinned map in the place of this one (bpf.OpenContexts).
 */
#ifndef OTEL_KPROBE_APP_CONTEXT_H
#define OTEL_KPROBE_APP_CONTEXT_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* A span, as on the wire of W3C trace context; all zero: none. */
struct app_context {
	__u8 trace_id[16];
	__u8 span_id[8];
};

/* Who told which span something belongs to: event.AppSource. */
enum app_source {
	APP_THREAD = 1, /* traces_ctx_v1 */
};

/* The layout is the interface's; a later version may have longer values. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 14);
	__type(key, __u64); /* bpf_get_current_pid_tgid() of the thread */
	__type(value, struct app_context);
} traces_ctx_v1 SEC(".maps");

/*
 * The current thread's span, NULL when it is in none. It means something where a
 * thread works for itself, in a system call: not in an interrupt.
 */
static __always_inline const struct app_context *thread_context(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&traces_ctx_v1, &thread);
}

/* The same as a copy; gives who told it, 0 when the thread is in no span. */
static __always_inline int read_thread_context(struct app_context *context)
{
	const struct app_context *known = thread_context();

	if (!known)
		return 0;
	*context = *known;
	return APP_THREAD;
}

#endif
