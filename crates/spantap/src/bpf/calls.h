/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* System calls: their numbers, which one a thread is in, and the files that they work on. */
#pragma once

#if defined(__TARGET_ARCH_x86)
#define READ 0
#define WRITE 1
#define OPEN 2
#define STAT 4
#define LSTAT 6
#define POLL 7
#define READV 19
#define WRITEV 20
#define ACCESS 21
#define SENDFILE 40
#define CONNECT 42
#define ACCEPT 43
#define SENDTO 44
#define RECVFROM 45
#define SENDMSG 46
#define RECVMSG 47
#define BIND 49
#define EXECVE 59
#define TRUNCATE 76
#define CHDIR 80
#define RENAME 82
#define MKDIR 83
#define RMDIR 84
#define UNLINK 87
#define READLINK 89
#define STATFS 137
#define FUTEX 202
#define OPENAT 257
#define MKDIRAT 258
#define NEWFSTATAT 262
#define UNLINKAT 263
#define RENAMEAT 264
#define READLINKAT 267
#define FACCESSAT 269
#define PPOLL 271
#define ACCEPT4 288
#define RECVMMSG 299
#define SENDMMSG 307
#define RENAMEAT2 316
#define STATX 332
#else /* asm-generic/unistd.h */
#define MKDIRAT 34
#define UNLINKAT 35
#define RENAMEAT 38
#define STATFS 43
#define TRUNCATE 45
#define FACCESSAT 48
#define CHDIR 49
#define OPENAT 56
#define READ 63
#define WRITE 64
#define READV 65
#define WRITEV 66
#define SENDFILE 71
#define PPOLL 73
#define READLINKAT 78
#define NEWFSTATAT 79
#define FUTEX 98
#define BIND 200
#define ACCEPT 202
#define CONNECT 203
#define SENDTO 206
#define RECVFROM 207
#define SENDMSG 211
#define RECVMSG 212
#define EXECVE 221
#define ACCEPT4 242
#define RECVMMSG 243
#define SENDMMSG 269
#define RENAMEAT2 276
#define STATX 291
#endif
#define OPENAT2 437
#define FACCESSAT2 439
#define FUTEX_WAITV 449
#define FUTEX_WAIT 455

/* The call that a thread of a program is in, with its registers; or -1: it came to the kernel in another way. */
static __always_inline s64 call_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, orig_ax);
#else
	return BPF_CORE_READ(regs, syscallno);
#endif
}

/* The file that is open as `fd`, or NULL. */
static __always_inline struct file *file_of(struct task_struct *task, u64 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	files = BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), &files[fd]))
		return NULL;
	return file;
}
