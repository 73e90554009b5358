/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* System calls of threads in a span. Attached only on request: they make each system call of each process on the
 * machine slower. */
#pragma once

/* Pointer to the path, or NULL. */
static __always_inline u64 path_of(struct pt_regs *regs, long number)
{
	switch (number) {
#if defined(__TARGET_ARCH_x86)
	case OPEN:
	case STAT:
	case LSTAT:
	case ACCESS:
	case RENAME:
	case MKDIR:
	case RMDIR:
	case UNLINK:
	case READLINK:
#endif
	case EXECVE:
	case TRUNCATE:
	case CHDIR:
	case STATFS:
		return PT_REGS_PARM1_CORE_SYSCALL(regs);
	case OPENAT:
	case MKDIRAT:
	case NEWFSTATAT:
	case UNLINKAT:
	case RENAMEAT:
	case READLINKAT:
	case FACCESSAT:
	case RENAMEAT2:
	case STATX:
	case OPENAT2:
	case FACCESSAT2:
		return PT_REGS_PARM2_CORE_SYSCALL(regs);
	}
	return 0;
}

/* Pointer to the address, or NULL; and its length. */
static __always_inline u64 address_of(struct pt_regs *regs, long number, u32 *length)
{
	switch (number) {
	case CONNECT:
	case BIND:
		*length = PT_REGS_PARM3_CORE_SYSCALL(regs);
		return PT_REGS_PARM2_CORE_SYSCALL(regs);
	case SENDTO:
		*length = PT_REGS_PARM6_CORE_SYSCALL(regs);
		return PT_REGS_PARM5_CORE_SYSCALL(regs);
	}
	return 0;
}

static __always_inline void find_path(struct thread *thread, struct pt_regs *regs, long number)
{
	u32 length = 0;

	thread->call_path_kind = PATH_OF_ARGUMENT;
	thread->call_pointer = path_of(regs, number);
	if (thread->call_pointer)
		return;
	thread->call_path_kind = ADDRESS_OF_ARGUMENT;
	thread->call_pointer = address_of(regs, number, &length);
	thread->call_length = length;
	if (!thread->call_pointer)
		thread->call_path_kind = 0;
}

/* Reads the path or address, and clears the pointer if that worked. A page that was never touched can't be read yet; it
 * can when the call is over. */
static __always_inline void read_path(struct thread *thread)
{
	const void *pointer = (const void *)thread->call_pointer;
	u32 length = thread->call_length;

	if (!pointer)
		return;
	if (thread->call_path_kind == PATH_OF_ARGUMENT) {
		if (bpf_probe_read_user_str(thread->call_path, PATH_BYTES, pointer) <= 0)
			return;
	} else {
		asm volatile("" : "+r"(length));
		if (length > PATH_BYTES)
			length = PATH_BYTES;
		__builtin_memset(thread->call_path, 0, PATH_BYTES);
		if (bpf_probe_read_user(thread->call_path, length, pointer))
			return;
	}
	thread->call_pointer = 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long number)
{
	struct thread *thread = in_span(bpf_get_current_task_btf());

	if (!thread)
		return 0;
	find_path(thread, regs, number);
	read_path(thread);
	thread->call_first_argument = PT_REGS_PARM1_CORE_SYSCALL(regs);
	thread->call_since = bpf_ktime_get_ns();
	thread->call = number;
	return 0;
}

/* The last part of the name of the file open as `fd`, if it has one. User space knows which calls take a descriptor. */
static __always_inline bool name_of(struct task_struct *task, u64 fd, char *name)
{
	struct file *file = file_of(task, fd);
	const unsigned char *text;

	if (!file)
		return false;
	text = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	return bpf_probe_read_kernel_str(name, PATH_BYTES, text) > 1;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *thread = followed(task);
	struct kernel_span span = { .kind = SYSCALL };
	struct record_kernel *record;

	/* The call began before the thread's first span. */
	if (!thread || thread->call < 0)
		return 0;
	span.number = thread->call;
	/* Also if the thread's memory can't be read now: it must not be taken for a later call. */
	thread->call = -1;
	thread = in_span(task);
	if (!thread)
		return 0;
	span.ids = *innermost(thread);
	fill_current_owner(&span.owner);
	span.start = thread->call_since;
	span.end = bpf_ktime_get_ns();
	record = begin_or_summarize(&span);
	if (!record)
		return 0;
	record->call.result = result;
	record->call.first_argument = thread->call_first_argument;
	read_path(thread);
	if (thread->call_path_kind && !thread->call_pointer) {
		__builtin_memcpy(record->call.path, thread->call_path, PATH_BYTES);
		record->call.path_kind = thread->call_path_kind;
	} else if (name_of(task, thread->call_first_argument, record->call.path)) {
		record->call.path_kind = PATH_OF_DESCRIPTOR;
	}
	submit(record);
	return 0;
}
