/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * kernel_types.h - the few members of kernel structures that we read.
 *
 * Only names matter: CO-RE finds each member's offset in the running kernel's
 * BTF (https://docs.kernel.org/bpf/libbpf/libbpf_overview.html#bpf-co-re-compile-once-run-everywhere),
 * so that no vmlinux.h of one kernel version is needed.
 */
#ifndef OTEL_KPROBE_KERNEL_TYPES_H
#define OTEL_KPROBE_KERNEL_TYPES_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/ptrace.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[16];
	int ifindex;
	unsigned int mtu;
	possible_net_t nd_net;
};

struct list_head {
	struct list_head *next, *prev;
};

struct kernfs_node {
	u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct sock_common {
	possible_net_t skc_net;
	unsigned char skc_state;
	__u32 skc_portpair; /* both ports */
	__u16 skc_num; /* local port */
	struct sock *skc_listener; /* of a request_sock, which begins like a sock */
};

struct sock_cgroup_data {
	u64 val;
};

struct sock {
	struct sock_common __sk_common;
	unsigned char sk_kern_sock : 1;
	u8 sk_shutdown;
	struct sock_cgroup_data sk_cgrp_data;
};

struct tcp_sock {
	u32 write_seq;
	u32 rcv_nxt;
};

struct socket {
	struct sock *sk;
};

struct inode {
	unsigned short i_mode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct task_struct___files {
	struct files_struct *files;
};

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	struct sock *sk;
	unsigned long _nfct; /* with CONFIG_NF_CONNTRACK */
	unsigned int len;
	unsigned int data_len;
	__u32 mark;
	__u16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	unsigned int end; /* an offset from head on 64-bit machines */
	unsigned char *head;
	unsigned char *data;
};

/* skb_frag_t: a bio_vec until Linux 6.9, and of the same layout since. */
struct skb_frag {
	u64 page; /* of a struct page, if its lowest bit is 0 */
	u32 len;
	u32 offset;
};

struct skb_shared_info {
	u8 nr_frags;
	unsigned int gso_type;
	struct sk_buff *frag_list;
	struct skb_frag frags[1];
};

struct page {
	unsigned long flags;
};

#pragma clang attribute pop

#endif
