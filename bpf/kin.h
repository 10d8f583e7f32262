/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * kin.h - skbs that come from a tracked skb or go into one. A clone or copy is
 * the same packet and joins its journey. A segment or fragment is a packet of
 * its own: it gets a journey of its own, and a record links the two. So does an
 * skb that is merged into another one, or chained to it for a while.
 */
#ifndef OTEL_KPROBE_KIN_H
#define OTEL_KPROBE_KIN_H

#include "modes.h"
#include "track.h"

#define MAX_KIN 64 /* of one list */
/* SKB_GSO_FRAGLIST, since 5.6: https://git.kernel.org/torvalds/c/3a1296a38d0c */
#define GSO_FRAGLIST (1 << 18)

/*
 * A fragment is prepared when the one before it has been, and that has not left
 * yet: at most so many frames were entered on it. It is its brother and no child.
 */
#define BROTHER_FRAMES 4

/* A list of skbs that one skb has to do with, walked one skb a call. */
struct kin_list {
	u64 skb; /* the tracked one */
	u64 journey;
	u64 func;
	u64 next;
	u32 kin;
	u32 pad;
};

/* The packets of two skbs, as struct link_record has them. */
struct kinship {
	u64 journey;
	u64 other;
	u64 skb;
	u64 other_skb;
	u64 func;
};

static __always_inline void send_link(struct cpu_state *cpu, u8 what, const struct kinship *kinship)
{
	struct link_record *link = bpf_ringbuf_reserve(&ring, sizeof(*link), 0);

	if (!link) {
		COUNT(cpu->ring_full_facts);
		return;
	}
	link->kind = RECORD_LINK;
	link->what = what;
	link->cpu = bpf_get_smp_processor_id();
	link->tid = bpf_get_current_pid_tgid();
	link->journey = kinship->journey;
	link->other = kinship->other;
	link->skb = kinship->skb;
	link->other_skb = kinship->other_skb;
	link->func = kinship->func;
	link->at_mono_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(link, record_flag(cpu));
}

/* One new skb begins a journey of its own, which was cut from the list's. */
static __noinline void derive_journey(struct cpu_state *cpu, const struct kin_list *list, u64 skb)
{
	struct tracked_skb *from = bpf_map_lookup_elem(&tracked, &list->skb);
	struct tracked_skb state = {};
	struct kinship kinship = {};

	if (!from)
		return;
	state.origin = list->journey;
	if (list->kin == KIN_DERIVES_FIRST && from->origin && from->entered <= BROTHER_FRAMES)
		state.origin = from->origin;
	state.journey = new_journey(cpu);
	state.randomness = from->randomness;
	state.payload_seen = 1; /* its origin told it */
	if (!follow_skb(cpu, skb, &state))
		return;
	kinship.journey = state.journey;
	kinship.other = state.origin;
	kinship.skb = skb;
	kinship.other_skb = list->skb;
	kinship.func = list->func;
	send_link(cpu, LINK_DERIVED, &kinship);
}

/* An skb goes on in, or with, another one: nothing to tell unless both are tracked. */
static __noinline void link_journeys(struct cpu_state *cpu, u32 what, u64 skb, u64 other_skb, u64 func)
{
	struct tracked_skb *from = bpf_map_lookup_elem(&tracked, &skb);
	struct tracked_skb *into = bpf_map_lookup_elem(&tracked, &other_skb);
	struct kinship kinship = {};

	if (!from || !into || from->journey == into->journey)
		return;
	kinship.journey = from->journey;
	kinship.other = into->journey;
	kinship.skb = skb;
	kinship.other_skb = other_skb;
	kinship.func = func;
	send_link(cpu, what, &kinship);
}

/* An skb is chained to that of the list: it stays what it is. */
static __noinline void chain_skb(struct cpu_state *cpu, const struct kin_list *list, u64 skb)
{
	struct tracked_skb *state = bpf_map_lookup_elem(&tracked, &skb);

	if (!state || state->head) /* of a tunnel's packets both protocols tell */
		return;
	state->head = list->journey;
	link_journeys(cpu, LINK_CHAINED, skb, list->skb, list->func);
}

/* Meets the next one; 1 at the end of the list. */
static __noinline long meet_next(u32 number, struct kin_list *list)
{
	struct cpu_state *cpu = this_cpu_state();
	u64 skb = list->next;

	if (!cpu || skb < LOWEST_KERNEL_ADDRESS || skb > HIGHEST_POINTER || skb == list->skb)
		return 1;
	if (list->kin == KIN_CLONES)
		join_journey(cpu, list->journey, skb, list->skb);
	else if (list->kin == KIN_GATHERS)
		link_journeys(cpu, LINK_MERGED, skb, list->skb, list->func);
	else if (list->kin == KIN_CHAINS)
		chain_skb(cpu, list, skb);
	else
		derive_journey(cpu, list, skb);
	list->next = (u64)BPF_CORE_READ((struct sk_buff *)skb, next);
	return 0;
}

static __always_inline void meet_list(struct kin_list *list)
{
#ifdef DIRECT
	bpf_loop(MAX_KIN, meet_next, list, 0);
#else
	u32 i;

	for (i = 0; i < MAX_KIN; i++)
		if (meet_next(i, list))
			break;
#endif
}

/*
 * The first skb that hangs on another one: as a piece of it, or, with chained,
 * where they are marked as packets of their own (and not merged by GRO).
 */
static __always_inline u64 frag_list_of(u64 skb, int chained)
{
	struct skb_shared_info *shared;

	shared = (void *)(BPF_CORE_READ((struct sk_buff *)skb, head) +
			  BPF_CORE_READ((struct sk_buff *)skb, end));
	if (chained && !(BPF_CORE_READ(shared, gso_type) & GSO_FRAGLIST))
		return 0;
	return (u64)BPF_CORE_READ(shared, frag_list);
}

/* A function with kin returns ret; its skb may be gone, unless it gathers or chains. */
static __noinline int meet_kin(struct cpu_state *cpu, struct slot *slot, u64 ret)
{
	struct kin_list list = {};

	if (!cpu || !slot)
		return 0;
	list.skb = slot->frame.skb;
	list.journey = slot->frame.journey;
	list.func = slot->frame.func;
	list.kin = slot->kin;
	switch (slot->kin) {
	case KIN_CLONES:
	case KIN_DERIVES:
		list.next = ret;
		break;
	case KIN_GATHERS:
		list.next = frag_list_of(list.skb, 0);
		break;
	case KIN_CHAINS:
		list.next = frag_list_of(list.skb, 1);
		break;
	case KIN_DERIVES_FIRST:
		derive_journey(cpu, &list, slot->first);
		return 0;
	default:
		if (slot->kin == KIN_MERGES_ZERO ? (u32)ret != 0 : !(u8)ret)
			return 0;
		link_journeys(cpu, LINK_MERGED, list.skb, slot->first, list.func);
		return 0;
	}
	meet_list(&list);
	return 0;
}

#endif
