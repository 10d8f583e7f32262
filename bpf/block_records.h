/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * block_records.h - what the block programs send through the ring buffer; the
 * rules of records.h hold here, too. event.Block says what each member means.
 */
#ifndef OTEL_KPROBE_BLOCK_RECORDS_H
#define OTEL_KPROBE_BLOCK_RECORDS_H

#include "app_context.h"
#include <linux/types.h>

enum block_kind {
	RECORD_REQUEST = 5,
	RECORD_BIO = 6,
	RECORD_MERGE = 7,
	RECORD_REQUEUE = 8,
};

/* Flags of struct block_record. */
enum block_flag {
	BLOCK_WRITEBACK = 1 << 0,
	BLOCK_ERRNO = 1 << 1,
	BLOCK_ENDS_PARENT = 1 << 2,
	BLOCK_SUBMITTER = 1 << 3,
	BLOCK_MERGED = 1 << 4,
};

/* Who submitted it, when, and in which span of its application. */
struct submitter {
	__u64 submit_mono_ns;
	__u64 cgroup;
	__u32 tgid;
	__u32 tid;
	__u8 comm[16];
	struct app_context app; /* at a multiple of 8, as it is compared by words */
};

/* A request, a bio, a merged bio or an attempt of a request: kind tells. */
struct block_record {
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 operation;
	__u64 id;
	__u64 parent;
	__u64 address;
	__u64 insert_mono_ns;
	__u64 issue_mono_ns;
	__u64 complete_mono_ns;
	__u64 sector;
	struct submitter submitter;
	__u32 device;
	__u32 partition;
	__u32 bytes;
	__u32 done;
	__s32 status;
	__u16 io_priority;
	__u16 bios;
	__u16 requeues;
	__u8 app_source; /* who told submitter.app: enum app_source */
	__u8 app_flags;  /* enum app_flag */
	__u16 pad[2];
};

#endif
