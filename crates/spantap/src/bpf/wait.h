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

/* NETWORK, LOCK or SLEEPING. It may wait for several descriptors at once: in poll() the first one decides, as nearly all
 * programs that poll within a span have only one; an epoll instance shows none. */
static __noinline int state_asleep(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 descriptor = PT_REGS_PARM1_CORE_SYSCALL(regs);
	s32 polled;

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
		return is_socket(task, descriptor) ? NETWORK : SLEEPING;
#if defined(__TARGET_ARCH_x86)
	case POLL:
#endif
	case PPOLL:
		/* The first member of a struct pollfd. */
		if (bpf_probe_read_user(&polled, sizeof(polled), (void *)descriptor))
			return SLEEPING;
		return is_socket(task, (u32)polled) ? NETWORK : SLEEPING;
	}
	return SLEEPING;
}
