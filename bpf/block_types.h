/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * block_types.h - the members of the block layer's structures that we read.
 * Only names matter, as in kernel_types.h. A name with ___ is the same struct as
 * other kernels have it.
 */
#ifndef OTEL_KPROBE_BLOCK_TYPES_H
#define OTEL_KPROBE_BLOCK_TYPES_H

#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

typedef u32 dev_t;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	struct css_set *cgroups;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct block_device_operations {
	void *submit_bio; /* set: the device has no requests (Linux 5.9) */
};

struct gendisk {
	int major;
	int first_minor;
	const struct block_device_operations *fops;
};

struct block_device {
	struct gendisk *bd_disk;
	dev_t bd_dev;
};

struct device {
	dev_t devt;
};

/* Linux before 5.11. */
struct hd_struct {
	struct device __dev;
};

struct bvec_iter {
	u64 bi_sector;
	unsigned int bi_size;
};

struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	unsigned short bi_ioprio;
	u8 bi_status;
	struct bvec_iter bi_iter;
	void *bi_private;
	struct blkcg_gq *bi_blkg;
};

/* Linux before 5.11. */
struct bio___disk {
	struct gendisk *bi_disk;
};

struct request_queue {
	struct gendisk *disk;
};

struct blk_flush_queue {
	struct list_head flush_queue[2];
	unsigned int flush_running_idx : 1;
};

struct blk_mq_hw_ctx {
	struct blk_flush_queue *fq;
};

struct request {
	struct request_queue *q;
	struct blk_mq_hw_ctx *mq_hctx;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 __sector;
	struct bio *bio;
	struct list_head queuelist;
	struct block_device *part;
	unsigned short ioprio;
};

/* Linux before 5.17. */
struct request___rq_disk {
	struct gendisk *rq_disk;
};

/* Linux before 5.11. */
struct request___hd_struct {
	struct hd_struct *part;
};

/* Linux before 6.6: the flush machinery keeps its lists here. */
struct request___flush_list {
	struct {
		struct list_head list;
	} flush;
};

#pragma clang attribute pop

#define OPERATION_MASK 0xff
#define OPERATION_FLUSH 2
/* The operations from here to 36 are passed through to the driver. */
#define OPERATION_SCSI_IN 32
#define OPERATION_DRV_OUT 35

/*
 * A pointer as a number to calculate with. The verifier knows what a tracepoint's
 * argument points to, and permits no arithmetic on it; adding it to memory makes
 * a number of it.
 */
static __always_inline u64 address_of(const void *pointer)
{
	volatile u64 address = 0;

	__sync_fetch_and_add(&address, (u64)pointer);
	return address;
}

static __always_inline u32 device_number(const struct gendisk *disk)
{
	return disk ? (u32)disk->major << 20 | (u32)disk->first_minor : 0;
}

static __always_inline struct gendisk *disk_of_request(struct request *rq)
{
	struct request___rq_disk *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return old->rq_disk;
	return rq->q->disk;
}

static __always_inline struct gendisk *disk_of_bio(struct bio *bio)
{
	struct bio___disk *old = (void *)bio;

	if (bpf_core_field_exists(old->bi_disk))
		return old->bi_disk;
	return bio->bi_bdev->bd_disk;
}

/* The device that was addressed: the partition, or the whole. */
static __always_inline u32 part_of_request(struct request *rq)
{
	struct bio___disk *old_bio = 0;
	struct hd_struct *part;

	if (bpf_core_field_exists(old_bio->bi_disk)) {
		part = ((struct request___hd_struct *)rq)->part;
		return part ? part->__dev.devt : 0;
	}
	return rq->part ? rq->part->bd_dev : 0;
}

static __always_inline u16 priority_of(struct request *rq)
{
	if (bpf_core_field_exists(rq->ioprio))
		return rq->ioprio;
	return rq->bio ? rq->bio->bi_ioprio : 0;
}

#endif
