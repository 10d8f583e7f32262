/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * buffers.h - packets that have no skb yet: what an XDP program was given.
 *
 * A buffer is followed from the XDP program that saw it first. When the program
 * lets it live, it waits in the map buffers under the address of its first byte,
 * which the driver does not move: the skb that is built around it, or the XDP
 * program of the device that it was redirected to, takes it over. User space ends
 * what waits too long (forget_buffer).
 */
#ifndef OTEL_KPROBE_BUFFERS_H
#define OTEL_KPROBE_BUFFERS_H

#include "last_skbs.h"
#include "track.h"

#define MAX_BUFFERS 4096
/* A drop reason of ours: above it stands the program's return value. */
#define XDP_DROP_REASON 0xffff0000

/* What an XDP program may return; the kernel takes other values for XDP_ABORTED. */
#define ACTION_PASS 2
#define ACTION_TX 3
#define ACTION_REDIRECT 4

struct tracked_buffer {
	u64 journey;
	u64 buffer; /* its address in records */
	u64 seen_mono_ns;
	u64 randomness; /* of facts_record */
	u32 action;
	u32 entered;
	u32 facts;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_BUFFERS); /* user space makes it 1 without --trace-xdp */
	__type(key, u64);		  /* address of the packet's first byte */
	__type(value, struct tracked_buffer);
} buffers SEC(".maps");

/* Entries of buffers. Zero lets every function leave without a look-up. */
s64 waiting_buffers = 0;

/* Says how a buffer ended: by the action of its last program. */
static __always_inline void send_buffer_end(struct cpu_state *cpu, const struct tracked_buffer *buffer,
					    u64 now)
{
	struct end_record *end = bpf_ringbuf_reserve(&ring, sizeof(*end), 0);

	if (!end) {
		COUNT(cpu->ring_full_ends);
		return;
	}
	__builtin_memset(end, 0, sizeof(*end));
	end->kind = RECORD_END;
	switch (buffer->action) {
	case ACTION_PASS:
		end->how = END_PASSED;
		break;
	case ACTION_TX:
		end->how = END_SENT;
		break;
	case ACTION_REDIRECT:
		end->how = END_REDIRECTED;
		break;
	default:
		end->how = END_DROPPED;
		end->reason = XDP_DROP_REASON | (buffer->action & 0xffff);
	}
	end->cpu = bpf_get_smp_processor_id();
	end->tid = bpf_get_current_pid_tgid();
	end->journey = buffer->journey;
	end->skb = buffer->buffer;
	end->at_mono_ns = now;
	end->entered = buffer->entered;
	bpf_ringbuf_submit(end, record_flag(cpu));
}

/* Takes what waits at an address out of the map; 0: nothing, or another was first. */
static __always_inline int take_buffer(u64 data, struct tracked_buffer *buffer)
{
	struct tracked_buffer *found = bpf_map_lookup_elem(&buffers, &data);

	if (!found)
		return 0;
	*buffer = *found;
	if (bpf_map_delete_elem(&buffers, &data))
		return 0;
	__sync_fetch_and_add(&waiting_buffers, -1);
	return 1;
}

/* Follows what waits at an address no longer. */
static __noinline int end_waiting(u64 data)
{
	struct tracked_buffer buffer;
	struct cpu_state *cpu = this_cpu_state();

	if (!cpu || !take_buffer(data, &buffer))
		return 0;
	send_buffer_end(cpu, &buffer, bpf_ktime_get_ns());
	return 1;
}

/* The skb that was built around a buffer goes on with its journey; NULL: none was. */
static __noinline struct tracked_skb *join_buffer(u64 skb)
{
	struct cpu_state *cpu = this_cpu_state();
	struct tracked_buffer buffer;
	struct tracked_skb *state;
	struct skb_view view;

	if (!cpu || !waiting_buffers)
		return 0;
	view_packet(&view, skb);
	if (!has_mac_header(&view) || !take_buffer(view.head + view.mac_header, &buffer))
		return 0;
	join_journey(cpu, buffer.journey, skb, buffer.buffer);
	note_last_skb(skb);
	send_buffer_end(cpu, &buffer, bpf_ktime_get_ns());
	state = bpf_map_lookup_elem(&tracked, &skb);
	if (state)
		state->randomness = buffer.randomness;
	return state;
}

/* Run by user space (BPF_PROG_TEST_RUN) with the key of a buffer that waits. */
SEC("raw_tracepoint/forget_buffer")
int forget_buffer(struct bpf_raw_tracepoint_args *ctx)
{
	return end_waiting(ctx->args[0]);
}

#endif
