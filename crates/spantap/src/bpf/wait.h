/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* What a thread that is about to sleep waits for: its system call says it. */
#pragma once

/* linux/stat.h */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

static __always_inline bool is_socket(struct task_struct *task, u64 fd)
{
	struct file *file = file_of(task, fd);

	return file && (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFSOCK;
}

/* How many descriptors of a poll() are looked at. */
#define POLLED 4

/* Whether the first descriptor that poll() does not skip is a socket. */
static __always_inline bool polls_socket(struct task_struct *task, u64 polled, u64 count)
{
	struct {
		s32 fd;
		s32 events;
	} each;

	for (u64 i = 0; i < POLLED && i < count; i++) {
		if (bpf_probe_read_user(&each, sizeof(each), (void *)(polled + i * sizeof(each))))
			return false;
		if (each.fd >= 0)
			return is_socket(task, each.fd);
	}
	return false;
}

/* NETWORK, LOCK or SLEEPING, for a thread that is in a span. Of several descriptors, any may end the wait; the first one has
 * to stand for all. Those of epoll, select and io_uring are too far to look for: such a wait is SLEEPING, and so is the rest
 * of one that was interrupted by a stop (restart_syscall). */
static __noinline int state_asleep(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 argument = PT_REGS_PARM1_CORE_SYSCALL(regs);

	switch (call_of(regs)) {
	case FUTEX:
	case FUTEX_WAITV:
	case FUTEX_WAIT:
		return LOCK;
	case CONNECT:
	case ACCEPT:
	case ACCEPT4:
	case SENDTO:
	case SENDMSG:
	case SENDMMSG:
	case SENDFILE:
	case RECVFROM:
	case RECVMSG:
	case RECVMMSG:
	case READ:
	case READV:
	case WRITE:
	case WRITEV:
		/* Descriptors are ints: the upper half of the register may be anything. */
		return is_socket(task, (u32)argument) ? NETWORK : SLEEPING;
#if defined(__TARGET_ARCH_x86)
	case POLL:
#endif
	case PPOLL:
		return polls_socket(task, argument, PT_REGS_PARM2_CORE_SYSCALL(regs)) ? NETWORK : SLEEPING;
	}
	return SLEEPING;
}
