/* Where threads are when they are not on a CPU. */
#pragma once

/* linux/sched.h */
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_NOLOAD 0x400

static __always_inline u32 where(struct task_struct *task, bool preempt, unsigned int state)
{
	if (bpf_core_field_exists(task->throttled) && BPF_CORE_READ(task, throttled))
		return THROTTLED;
	if (preempt || state == 0)
		return PREEMPTED;
	if (state & (TASK_STOPPED | TASK_TRACED))
		return STOPPED;
	if ((state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD))
		return DISK;
	return SLEEPING;
}

/* Of a thread that is not the current one. */
static __always_inline void whose_of(struct task_struct *task, struct whose *whose)
{
	whose->pid = task->tgid;
	whose->tid = task->pid;
	__builtin_memcpy(whose->comm, task->comm, sizeof(whose->comm));
}

static __always_inline void report_wait(struct thread *thread, struct task_struct *task, u32 what, u64 start,
					u64 end)
{
	struct kernel_span span = { .what = what, .who = *innermost(thread), .start = start, .end = end };
	struct record_kernel *record;

	whose_of(task, &span.whose);
	record = begin_or_add(&span);
	if (!record)
		return;
	if (what != PREEMPTED && what != THROTTLED)
		record->waker = thread->waker;
	submit(record);
}

static __always_inline void leaves_cpu(struct thread *thread, struct task_struct *task, bool preempt,
				       unsigned int state, u64 now)
{
	ran(thread, now);
	thread->off = where(task, preempt, state);
}

static __always_inline void gets_cpu(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 since = thread->since, woken = thread->woken;
	u32 off = thread->off;

	thread->since = now;
	thread->woken = 0;
	if (off == PREEMPTED || off == THROTTLED) {
		thread->part[off] += now - since;
		report_wait(thread, task, off, since, now);
		return;
	}
	/* Woken by another CPU while it was still on its way: then it slept no time at all. */
	if (woken == 0)
		woken = now;
	else if (woken < since)
		woken = since;
	if (off >= PARTS)
		off = SLEEPING;
	thread->part[off] += woken - since;
	thread->part[RUN_QUEUE] += now - woken;
	report_wait(thread, task, off, since, woken);
	if (now > woken)
		report_wait(thread, task, RUN_QUEUE, woken, now);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int state)
{
	struct thread *leaves = in_span(prev), *gets = in_span(next);
	u64 now;

	if (!leaves && !gets)
		return 0;
	now = bpf_ktime_get_ns();
	if (leaves)
		leaves_cpu(leaves, prev, preempt, state, now);
	if (gets)
		gets_cpu(gets, next, now);
	return 0;
}

/* In the context of who wakes it. */
SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *task)
{
	struct thread *thread = in_span(task);
	struct waker *waker;
	u64 ids;

	if (!thread)
		return 0;
	ids = bpf_get_current_pid_tgid();
	waker = &thread->waker;
	waker->pid = ids >> 32;
	waker->tid = ids;
	bpf_get_current_comm(waker->comm, sizeof(waker->comm));
	waker->in_interrupt = in_interrupt(ctx, thread);
	thread->woken = bpf_ktime_get_ns();
	return 0;
}
