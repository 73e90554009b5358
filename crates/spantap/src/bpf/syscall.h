/* System calls of threads in a span. With these attached, each call of each process of the machine takes
 * longer, which is why they are asked for. */
#pragma once

#if defined(__TARGET_ARCH_x86)
#define OPEN 2
#define STAT 4
#define LSTAT 6
#define OPENAT 257
#define NEWFSTATAT 262
#define UNLINKAT 263
#define STATX 332
#define OPENAT2 437
#else /* asm-generic/unistd.h */
#define UNLINKAT 35
#define OPENAT 56
#define NEWFSTATAT 79
#define STATX 291
#define OPENAT2 437
#endif

/* Where its path is, if it has one. */
static __always_inline const char *path_of(struct pt_regs *regs, long number)
{
	switch (number) {
#if defined(__TARGET_ARCH_x86)
	case OPEN:
	case STAT:
	case LSTAT:
		return (const char *)PT_REGS_PARM1_CORE_SYSCALL(regs);
#endif
	case OPENAT:
	case NEWFSTATAT:
	case UNLINKAT:
	case STATX:
	case OPENAT2:
		return (const char *)PT_REGS_PARM2_CORE_SYSCALL(regs);
	}
	return NULL;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long number)
{
	struct thread *thread = in_span(bpf_get_current_task_btf());
	const char *path;

	if (!thread)
		return 0;
	path = path_of(regs, number);
	thread->call_has_path = path && bpf_probe_read_user_str(thread->call_path, PATH_BYTES, path) > 0;
	thread->call_first = PT_REGS_PARM1_CORE_SYSCALL(regs);
	thread->call_since = bpf_ktime_get_ns();
	thread->call = number;
	return 0;
}

/* The last part of the name of what is open as `fd`, if it has one. User space knows which calls take one. */
static __always_inline bool name_of(struct task_struct *task, u64 fd, char *name)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	const unsigned char *text;
	struct file **files, *file;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return false;
	files = BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), &files[fd]) || !file)
		return false;
	text = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	return bpf_probe_read_kernel_str(name, PATH_BYTES, text) > 1;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *thread = in_span(task);
	struct kernel_span span = { .what = SYSCALL };
	struct record_kernel *record;

	/* In the middle of one when we looked first. */
	if (!thread || thread->call < 0)
		return 0;
	span.call = thread->call;
	thread->call = -1;
	span.who = *innermost(thread);
	fill_whose(&span.whose);
	span.start = thread->call_since;
	span.end = bpf_ktime_get_ns();
	record = begin_or_add(&span);
	if (!record)
		return 0;
	record->call.result = result;
	record->call.first = thread->call_first;
	if (thread->call_has_path) {
		__builtin_memcpy(record->call.path, thread->call_path, PATH_BYTES);
		record->call.has_path = PATH_OF_ARGUMENT;
	} else if (name_of(task, thread->call_first, record->call.path)) {
		record->call.has_path = PATH_OF_DESCRIPTOR;
	}
	submit(record);
	return 0;
}
