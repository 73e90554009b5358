/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* The fields of the kernel's own types that the programs read.
 *
 * The loader adjusts each access to the running kernel's layout, by its BTF. So these types need not be complete
 * nor in order, and the build needs no vmlinux.h. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

/* For libbpf's headers: registers have the kernel's names here, not those of user space. */
#define __VMLINUX_H__

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long dx;
	unsigned long di;
	unsigned long si;
	unsigned long ip;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
	u64 pc;
};

struct pt_regs {
	struct user_pt_regs user_regs;
	s32 syscallno; /* -1: it came to the kernel in another way */
};
#endif

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct inode {
	unsigned short i_mode;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct signal_struct {
	struct {
		int counter;
	} live;
	int group_exit_code;
	unsigned int flags;
};

struct sched_info {
	unsigned long pcount; /* how often it was given a CPU after a wait */
	unsigned long long run_delay; /* how long it has waited for one, in ns */
	unsigned long long last_queued; /* when its present wait began; 0: it is not waiting */
};

/* Where the thread's own variables are. */
struct thread_struct {
#if defined(__TARGET_ARCH_x86)
	unsigned long fsbase;
#elif defined(__TARGET_ARCH_arm64)
	struct {
		unsigned long tp_value;
	} uw;
#endif
};

struct task_struct {
	void *stack;
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	u64 start_time;
	u64 self_exec_id;
	char comm[16];
	struct files_struct *files;
	struct sched_info sched_info;
	unsigned in_iowait : 1;
	bool throttled; /* since Linux 6.18 */
	struct thread_struct thread;
};

struct linux_binprm {
	const char *filename;
};

struct gendisk {
	int major;
	int first_minor;
	char disk_name[32];
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	u32 cmd_flags;
	unsigned int __data_len;
};


struct in6_addr {
	union {
		u32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
	u8 sk_shutdown;
	int sk_err;
};

struct tcp_sock {
	u32 srtt_us;
	u32 write_seq;
	u32 snd_nxt;
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
	u32 total_retrans;
};

struct sk_buff;

#pragma clang attribute pop
