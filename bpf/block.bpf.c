//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* block.bpf.c - the block programs for Linux 5.17 and later. */
#define NEW_KERNEL
#include "block_programs.h"
