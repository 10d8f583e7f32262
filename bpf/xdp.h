/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * xdp.h - the runs of XDP programs: on the buffer of a packet that has no skb yet, or
 * (generic XDP, veth) on that of an skb.
 */
#ifndef OTEL_KPROBE_XDP_H
#define OTEL_KPROBE_XDP_H

#include "runs.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct xdp_rxq_info {
	struct net_device *dev;
};

struct netdev_rx_queue {
	struct xdp_rxq_info xdp_rxq;
};

/* Another flavour of the struct of kernel_types.h. */
struct net_device___queues {
	struct netdev_rx_queue *_rx;
	unsigned int num_rx_queues;
};

struct xdp_buff {
	void *data;
	void *data_end;
	void *data_hard_start;
	struct xdp_rxq_info *rxq;
};

#pragma clang attribute pop

#define XDP_OFFSET(member) ((u64)bpf_core_field_offset(struct xdp_buff, member))

/* What an XDP program is given, read once. */
struct buffer_view {
	u64 data;
	u64 hard_start;
	u64 dev;
	u64 rxq;
	u32 len;
	u32 pad;
};

static __always_inline void view_buffer(struct buffer_view *view, u64 xdp)
{
	view->rxq = read_u64(xdp + XDP_OFFSET(rxq));
	view->data = read_u64(xdp + XDP_OFFSET(data));
	view->hard_start = read_u64(xdp + XDP_OFFSET(data_hard_start));
	view->len = read_u64(xdp + XDP_OFFSET(data_end)) - view->data;
	view->dev = read_u64(view->rxq + (u64)bpf_core_field_offset(struct xdp_rxq_info, dev));
	view->pad = 0;
}

/* The buffer as an skb's view that has the link header of it, and no other yet. */
static __always_inline void as_skb(struct skb_view *skb, const struct buffer_view *view)
{
	skb->head = view->data - 1;
	skb->data = view->data;
	skb->dev = view->dev;
	skb->len = view->len;
	skb->data_len = 0;
	skb->sock = 0;
	skb->mark = 0;
	skb->network_header = 0;
	skb->mac_header = 1;
}

static __always_inline int buffer_matches(const struct buffer_view *view)
{
	struct skb_view skb;

	as_skb(&skb, view);
	if (owner_settings.wanted || !matches_pcap(&skb)) /* it belongs to no socket yet */
		return 0;
	if (settings.has_tunnel && !matches_tunnel(&skb))
		return 0;
	if (settings.mark_mask && settings.mark)
		return 0;
	if (settings.has_interface && !matches_interface(view->dev))
		return 0;
	return !settings.netns || netns_of(0, view->dev) == settings.netns;
}

/* Fills everything but journey, number, randomness and the start flag. */
static __always_inline void read_buffer_facts(struct facts_record *facts, const struct buffer_view *view,
					      u64 buffer)
{
	u32 type = bpf_ntohs(read_u32(view->data + 12));
	struct skb_view skb;

	as_skb(&skb, view);
	if (type == ETHER_VLAN) {
		type = bpf_ntohs(read_u32(view->data + 12 + VLAN_HEADER_BYTES));
		skb.head += VLAN_HEADER_BYTES;
	}
	if (type != ETHER_IP4 && type != ETHER_IP6)
		skb.mac_header = 0; /* no header that read_facts would understand */
	read_facts(facts, &skb, 0);
	facts->skb = buffer;
	facts->ether_type = type;
}

/* Sends facts of a buffer, at its journey's start or not; 0 when it is one of our exporter's own, or there is no room. */
static __noinline int send_buffer_facts(const struct buffer_view *view, struct open_run *run, int start)
{
	struct cpu_state *cpu = this_cpu_state();
	struct facts_record *facts;

	if (!cpu || !run)
		return 0;
	facts = reserve_facts(cpu);
	if (!facts)
		return 0;
	read_buffer_facts(facts, view, run->frame.skb);
	tell_randomness(facts, run->randomness);
	if (is_own(facts)) {
		bpf_ringbuf_discard(facts, BPF_RB_NO_WAKEUP);
		return 0;
	}
	facts->journey = run->frame.journey;
	facts->number = run->facts;
	if (start) {
		facts->flags |= FACTS_START;
		if (facts->at_mono_ns - left_out_mono_ns < LATE_AFTER_LEFT_OUT_NS)
			facts->flags |= FACTS_LATE;
	}
	bpf_ringbuf_submit(facts, record_flag(cpu));
	return 1;
}

/* The randomness of a buffer; 0: it is left out. What becomes an skb is then left out again. */
static __noinline u64 sample_buffer(struct cpu_state *cpu, const struct buffer_view *view)
{
	struct skb_view skb;
	u64 randomness;

	as_skb(&skb, view);
	randomness = randomness_of(&skb);
	if (cpu && randomness < settings.sample_threshold) {
		COUNT(cpu->unsampled);
		return 0;
	}
	return randomness;
}

/* A run on a buffer: one that waits, or one that begins a journey. */
static __noinline int begin_buffer(u64 *ctx, const struct buffer_view *view)
{
	struct cpu_state *cpu = this_cpu_state();
	struct run_scratch *scratch = this_scratch();
	struct tracked_buffer buffer;
	int known = 0;

	if (!cpu || !scratch)
		return 0;
	if (waiting_buffers)
		known = take_buffer(view->data, &buffer);
	if (!known) {
		if (!buffer_matches(view))
			return 0;
		buffer.randomness = 0;
		if (settings.sample_threshold) {
			buffer.randomness = sample_buffer(cpu, view);
			if (!buffer.randomness)
				return 0;
		}
		if (reader_is_behind()) {
			COUNT(cpu->left_out_starts);
			left_out_mono_ns = bpf_ktime_get_ns();
			return 0;
		}
		buffer.journey = new_run_journey(cpu);
		buffer.buffer = view->hard_start;
		buffer.entered = 0;
		buffer.facts = 0;
	}
	scratch->run.run_kind = RUN_BUFFER;
	scratch->run.randomness = buffer.randomness;
	scratch->run.facts = buffer.facts + 1;
	scratch->run.frame.journey = buffer.journey;
	scratch->run.frame.skb = buffer.buffer;
	scratch->run.frame.ordinal = buffer.entered + 1;
	scratch->run.frame.len = view->len;
	scratch->run.frame.mark = 0;
	if (!send_buffer_facts(view, &scratch->run, !known) && !known)
		return 0;
	open_run(ctx, cpu, scratch, bpf_ktime_get_ns());
	return 0;
}

/*
 * The tracked skb that an XDP program runs on: one that this CPU saw lately and of
 * which the buffer is the data. NULL: there is none.
 */
static __always_inline struct tracked_skb *skb_of_buffer(const struct buffer_view *view, u64 *skb)
{
	struct last_skbs *last = these_last_skbs();
	struct tracked_skb *state;
	int i;

	if (!live || !last)
		return 0;
#pragma unroll
	for (i = 0; i < LAST_SKBS; i++) {
		*skb = last->skbs[i];
		if (!*skb)
			continue;
		state = bpf_map_lookup_elem(&tracked, skb);
		if (state && read_u64(*skb + (u64)bpf_core_field_offset(struct sk_buff, head)) ==
				     view->hard_start)
			return state;
	}
	return 0;
}

/* Generic XDP uses the queues of the device itself, drivers have their own. */
static __always_inline int is_generic(const struct buffer_view *view)
{
	u64 first = read_u64(view->dev + (u64)bpf_core_field_offset(struct net_device___queues, _rx));
	u64 count = read_u32(view->dev + (u64)bpf_core_field_offset(struct net_device___queues, num_rx_queues));

	return view->rxq - first < count * bpf_core_type_size(struct netdev_rx_queue);
}

SEC("fentry/xdp_enter")
int xdp_enter(u64 *ctx)
{
	struct buffer_view view;
	struct tracked_skb *state;
	u64 skb;

	view_buffer(&view, run_argument(ctx, 0));
	state = skb_of_buffer(&view, &skb);
	if (state)
		return begin_run(ctx, state, skb, is_generic(&view) ? RUN_SKB : RUN_SKB_BUFFER);
	return begin_buffer(ctx, &view);
}

/*
 * After its program: the buffer waits for what takes it over, or it ends. That of an
 * skb waits only when it leaves its skb, which the driver then frees.
 */
static __noinline int leave_buffer(struct open_run *run, u64 xdp, u32 action)
{
	struct cpu_state *cpu = this_cpu_state();
	struct tracked_buffer buffer = {};
	u64 data = read_u64(xdp + XDP_OFFSET(data));

	if (!cpu || !run)
		return 0;
	buffer.journey = run->frame.journey;
	buffer.buffer = run->frame.skb;
	buffer.seen_mono_ns = run->frame.exit_mono_ns;
	buffer.randomness = run->randomness;
	buffer.action = action;
	buffer.entered = run->frame.ordinal;
	buffer.facts = run->facts;
	if (run->run_kind == RUN_SKB_BUFFER) {
		if (action != ACTION_TX && action != ACTION_REDIRECT)
			return 0;
		buffer.buffer = read_u64(xdp + XDP_OFFSET(data_hard_start));
		buffer.entered = 0;
		buffer.facts = 0;
		send_clone(cpu, buffer.journey, buffer.buffer, run->frame.skb);
	}
	if (action == ACTION_PASS || action == ACTION_TX || action == ACTION_REDIRECT) {
		end_waiting(data); /* what was there before is gone */
		if (!bpf_map_update_elem(&buffers, &data, &buffer, BPF_NOEXIST)) {
			__sync_fetch_and_add(&waiting_buffers, 1);
			return 0;
		}
		COUNT(cpu->tracked_full);
	}
	send_buffer_end(cpu, &buffer, buffer.seen_mono_ns);
	return 0;
}

/*
 * veth gives an XDP program a copy of an skb without room in front, and frees the
 * skb: the copy goes on with its journey.
 */
SEC("fentry/skb_copy_header")
int skb_copied(u64 *ctx)
{
	struct cpu_state *cpu = this_cpu_state();
	struct tracked_skb *state;
	u64 skb, from;

	if (!live || !cpu)
		return 0;
	skb = run_argument(ctx, 0);
	from = run_argument(ctx, 1);
	state = bpf_map_lookup_elem(&tracked, &from);
	if (!state)
		return 0;
	join_journey(cpu, state->journey, skb, from);
	note_last_skb(skb);
	return 0;
}

#endif
