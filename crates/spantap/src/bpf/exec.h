/* Programs that a thread in a span starts, from the fork to their end. */
#pragma once

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	struct thread *thread = in_span(parent), *started;

	/* Its first thread, in a process of its own. */
	if (!thread || child->pid != child->tgid)
		return 0;
	started = bpf_task_storage_get(&threads, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!started) {
		lose(LOST_NO_THREAD);
		return 0;
	}
	started->origin = *innermost(thread);
	whose_of(parent, &started->origins);
	started->forked = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	struct thread *thread = bpf_task_storage_get(&threads, task, 0, 0);

	if (!thread)
		return 0;
	/* The spans went with the old program. */
	thread->depth = 0;
	thread->too_deep = 0;
	if (thread->origin.span_id && !thread->has_run) {
		thread->has_run = 1;
		bpf_probe_read_kernel_str(thread->program, sizeof(thread->program), program->filename);
	}
	return 0;
}

/* linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 4

/* As its parent will have it. */
static __always_inline int status_of(struct task_struct *leader)
{
	if (BPF_CORE_READ(leader, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(leader, signal, group_exit_code);
	return leader->exit_code;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct kernel_span span = { .what = EXEC };
	struct record_kernel *record;
	struct thread *thread;

	/* The first thread may have ended before the last. */
	if (BPF_CORE_READ(task, signal, live.counter))
		return 0;
	thread = bpf_task_storage_get(&threads, leader, 0, 0);
	/* Several that end at once are each the last. */
	if (!thread || __sync_val_compare_and_swap(&thread->has_run, 1, 2) != 1)
		return 0;
	span.who = thread->origin;
	span.whose = thread->origins;
	span.start = thread->forked;
	span.end = bpf_ktime_get_ns();
	record = begin_record(&span);
	if (!record)
		return 0;
	record->exec.pid = task->tgid;
	record->exec.status = status_of(leader);
	__builtin_memcpy(record->exec.path, thread->program, sizeof(thread->program));
	submit(record);
	return 0;
}
