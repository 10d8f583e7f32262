//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* block_old.bpf.c - the block programs for kernels without atomic exchange. */
#include "block_programs.h"
