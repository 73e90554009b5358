/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Programs that a thread in a span starts, from the fork to the end of the process. */
#pragma once

/* A process that was forked in a span. */
struct child {
	struct ids ids;
	struct owner owner;
	u64 forked;
	u32 has_run; /* whether it has executed a program */
	char program[PATH_BYTES];
	u32 unused;
};

/* By pid, because any of its threads may execute a program or end last. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, u32);
	__type(value, struct child);
} children SEC(".maps");

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent, struct task_struct *task)
{
	struct thread *thread = in_span(parent);
	struct child child = {};
	u32 pid = task->tgid;

	/* Only for the first thread of a new process. */
	if (!thread || task->pid != task->tgid)
		return 0;
	child.ids = *innermost(thread);
	fill_owner(parent, &child.owner);
	child.forked = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&children, &pid, &child, BPF_ANY))
		count_loss(LOST_NO_CHILD);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	struct thread *thread = bpf_task_storage_get(&threads, task, 0, 0);
	u32 pid = task->tgid;
	struct child *child;

	/* The spans ended with the old program, and so did the memory that tells of them. */
	if (thread) {
		thread->block = 0;
		thread->is_foreign = 0;
		thread->depth = 0;
	}
	child = bpf_map_lookup_elem(&children, &pid);
	if (child && !child->has_run) {
		child->has_run = 1;
		bpf_probe_read_kernel_str(child->program, sizeof(child->program), program->filename);
	}
	return 0;
}

/* linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 4

/* As its parent's wait() returns it. */
static __always_inline int status_of(struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(task, signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	struct kernel_span span = { .kind = EXEC };
	struct record_kernel *record;
	struct child *found, child;
	u32 pid = task->tgid;

	/* Other threads of the process still run: the first thread may end before the last. */
	if (BPF_CORE_READ(task, signal, live.counter))
		return 0;
	found = bpf_map_lookup_elem(&children, &pid);
	if (!found)
		return 0;
	child = *found;
	/* Several threads that end at once may each be the last; the one that deletes the entry reports. */
	if (bpf_map_delete_elem(&children, &pid) || !child.has_run)
		return 0;
	span.ids = child.ids;
	span.owner = child.owner;
	span.start = child.forked;
	span.end = bpf_ktime_get_ns();
	record = begin_record(&span);
	if (!record)
		return 0;
	record->exec.pid = pid;
	record->exec.status = status_of(task);
	__builtin_memcpy(record->exec.path, child.program, sizeof(child.program));
	submit(record);
	return 0;
}
