/* What a thread does while it is in a span, and how its time adds up, part by part, at each change of that. */
#pragma once

/* linux/sched.h */
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_NOLOAD 0x400

/* The thread, if it is in a span. */
static __always_inline struct thread *in_span(struct task_struct *task)
{
	struct thread *thread = bpf_task_storage_get(&threads, task, 0, 0);

	return thread && thread->depth ? thread : NULL;
}

/* The innermost span that it is in. */
static __always_inline struct who *innermost(struct thread *thread)
{
	return &thread->stack[(thread->depth - 1) & (DEPTH - 1)].who;
}

static __always_inline u64 image_of(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	return leader->start_time + leader->self_exec_id;
}

/* Of a thread that is not the current one. */
static __always_inline void whose_of(struct task_struct *task, struct whose *whose)
{
	whose->pid = task->tgid;
	whose->tid = task->pid;
	__builtin_memcpy(whose->comm, task->comm, sizeof(whose->comm));
	whose->image = image_of(task);
}

/* How often it was given a CPU; 0 where the kernel doesn't count that. */
static __always_inline u64 runs_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.pcount) ? task->sched_info.pcount : 0;
}

/* How long it has waited for one since it was first woken. */
static __always_inline u64 waited_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
}

static __always_inline u32 where(struct task_struct *task, bool preempt, unsigned int state)
{
	if (bpf_core_field_exists(task->throttled) && BPF_CORE_READ(task, throttled))
		return THROTTLED;
	if (preempt || state == 0)
		return PREEMPTED;
	if (state & (TASK_STOPPED | TASK_TRACED))
		return STOPPED;
	if ((state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD))
		return BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait) ? DISK : BLOCKED;
	return SLEEPING;
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

/* From here on it is followed. */
static __always_inline void begins(struct thread *thread, struct task_struct *task, u64 now)
{
	thread->off = ON_CPU;
	thread->woken = 0;
	thread->arrived = 0;
	thread->runs = runs_of(task);
	thread->since = now;
}

/* Up to `now` it may have been anywhere. */
static __always_inline void unseen(struct thread *thread, u64 now)
{
	s64 more = now - thread->since;

	lose(LOST_SWITCHES);
	if (more > 0) {
		thread->part[UNSEEN] += more;
		thread->since = now;
	}
	thread->off = ON_CPU;
	thread->arrived = 0;
}

/* It could have run all the time. */
static __always_inline bool is_ready(u32 off)
{
	return off == PREEMPTED || off == THROTTLED;
}

/* It was off the CPU, and is on one from `now` on. If it slept, it was woken at `woken`. */
static __always_inline void back(struct thread *thread, struct task_struct *task, u64 woken, u64 now)
{
	u64 since = thread->since;
	u32 off = thread->off;

	thread->since = now;
	thread->off = ON_CPU;
	thread->arrived = 0;
	if (is_ready(off)) {
		thread->part[off] += now - since;
		report_wait(thread, task, off, since, now);
		return;
	}
	if (off >= PARTS)
		off = SLEEPING;
	thread->part[off] += woken - since;
	thread->part[RUN_QUEUE] += now - woken;
	report_wait(thread, task, off, since, woken);
	if (now > woken)
		report_wait(thread, task, RUN_QUEUE, woken, now);
}

/* It runs, and one of the changes that led there was not told: that it was woken, or that it got the CPU. The kernel
 * counts how long a thread waits for the CPU, which is from the one to the other. */
static __noinline int back_late(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 runs = runs_of(task), waited = waited_of(task) - thread->waited;
	u64 since = thread->since, woken = thread->woken, at = thread->arrived;

	if (at) {
		/* Not by the same clock; and another CPU may have woken it while it was still on its way. */
		woken = waited < at - since ? at - waited : since;
		__builtin_memset(&thread->waker, 0, sizeof(thread->waker));
	} else {
		runs--;
		if (is_ready(thread->off))
			woken = since;
		at = woken + waited;
	}
	if (runs == thread->runs && thread->off != THROTTLED && since <= woken && woken <= at && at <= now)
		back(thread, task, woken, at);
	else
		unseen(thread, now);
	thread->runs = runs_of(task);
	return 0;
}

/* It runs, and did so up to `now`.
 *
 * A kernel that preempts may take the CPU from it in the middle of a probe, and sched.h then changes all of this: so
 * the kernel's count is read before ours, and time that is counted already is not counted again. */
static __always_inline void ran(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 runs = runs_of(task);
	s64 more;

	barrier();
	if (!sees_sched) {
		/* All of its time is counted as if it ran, and nobody told of it. */
	} else if (thread->off != ON_CPU) {
		back_late(thread, task, now);
	} else if ((s64)(runs - thread->runs) > 0) {
		thread->runs = runs;
		unseen(thread, now);
	}
	more = now - thread->since;
	if (more > 0) {
		thread->part[ON_CPU] += more;
		thread->since = now;
	}
}

static __always_inline void leaves_cpu(struct thread *thread, struct task_struct *task, bool preempt,
				       unsigned int state, u64 now)
{
	ran(thread, task, now);
	thread->waited = waited_of(task);
	thread->off = where(task, preempt, state);
}

static __always_inline void gets_cpu(struct thread *thread, struct task_struct *task, u64 now)
{
	/* The kernel counts this time, and how long the thread has waited, only after it has told us. */
	u64 runs = runs_of(task);

	if (thread->off == ON_CPU || thread->arrived || runs > thread->runs)
		unseen(thread, now);
	else if (is_ready(thread->off) || (thread->since <= thread->woken && thread->woken <= now))
		back(thread, task, thread->woken, now);
	else if (runs)
		thread->arrived = now;
	else
		back(thread, task, now, now);
	thread->runs = runs + 1;
}
