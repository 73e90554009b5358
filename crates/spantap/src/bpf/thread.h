/* What a thread does while it is in a span, and how its time adds up, part by part, at each change of that. */
#pragma once

/* linux/sched.h */
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_NOLOAD 0x400
#define TASK_RTLOCK_WAIT 0x1000

static __always_inline bool is_in_span(struct thread *thread)
{
	return thread->depth && thread->stack[0].since >= entered_from;
}

/* The thread, if it is in a span. */
static __always_inline struct thread *in_span(struct task_struct *task)
{
	struct thread *thread = bpf_task_storage_get(&threads, task, 0, 0);

	return thread && is_in_span(thread) ? thread : NULL;
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

/* How often it was given a CPU after a wait; 0 where the kernel doesn't count that. */
static __always_inline u64 runs_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.pcount) ? task->sched_info.pcount : 0;
}

/* How long it has waited for one, in all its life, also where it was preempted. (Since Linux 6.12 a thread may be moved
 * to another CPU in its sleep, and is counted to wait from then on: if its wake-up is not told, so does our account.) */
static __always_inline u64 waited_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
}

/* Whether it is being counted to wait. It is not where it lost the CPU on its way to sleep. */
static __always_inline bool waits(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.last_queued) && task->sched_info.last_queued;
}

extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;

/* From here on it keeps the CPU: sched.h must not find a thread half changed by a probe. Before Linux 6.0 probes keep
 * it anyway. Until 6.10 there is no way to, and a kernel that preempts may then count such a moment wrongly. */
static __always_inline void keep_cpu(void)
{
	if (bpf_ksym_exists(bpf_preempt_disable))
		bpf_preempt_disable();
}

static __always_inline void let_go_of_cpu(void)
{
	if (bpf_ksym_exists(bpf_preempt_enable))
		bpf_preempt_enable();
}

static __always_inline u32 where(struct task_struct *task, bool preempt, unsigned int state)
{
	if (bpf_core_field_exists(task->throttled) && BPF_CORE_READ(task, throttled))
		return THROTTLED;
	if (preempt || state == 0)
		return PREEMPTED;
	if (state & (TASK_STOPPED | TASK_TRACED))
		return STOPPED;
	if (state & TASK_RTLOCK_WAIT)
		return BLOCKED;
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

/* It is on a CPU. */
static __always_inline void is_on_cpu(struct thread *thread)
{
	thread->off = ON_CPU;
	thread->woken = 0;
	thread->arrived = 0;
}

/* From here on it is followed. */
static __always_inline void begins(struct thread *thread, struct task_struct *task)
{
	is_on_cpu(thread);
	thread->runs = runs_of(task);
	thread->since = bpf_ktime_get_ns();
}

/* It is on a CPU, and up to `now` it may have been anywhere. */
static __always_inline void unseen(struct thread *thread, u64 now)
{
	s64 more = now - thread->since;

	if (more > 0) {
		lose(LOST_STRETCHES);
		thread->part[UNSEEN] += more;
		thread->since = now;
	}
	is_on_cpu(thread);
}

/* It could have run all the time. */
static __always_inline bool is_ready(u32 off)
{
	return off == PREEMPTED || off == THROTTLED;
}

/* It was off the CPU, and is on one from `now` on. If it slept, it was woken at `woken`. */
static __noinline int back(struct thread *thread, struct task_struct *task, u64 woken, u64 now)
{
	u64 since = thread->since;
	u32 off = thread->off;

	is_on_cpu(thread);
	thread->since = now;
	if (is_ready(off)) {
		thread->part[off] += now - since;
		report_wait(thread, task, off, since, now);
		return 0;
	}
	if (off > STOPPED) /* says the verifier */
		off = SLEEPING;
	thread->part[off] += woken - since;
	thread->part[RUN_QUEUE] += now - woken;
	report_wait(thread, task, off, since, woken);
	if (now > woken)
		report_wait(thread, task, RUN_QUEUE, woken, now);
	return 0;
}

/* From the wake-up of a thread that is on its way to sleep to where it is told to leave the CPU, and what the kernel's
 * clock and ours may be apart in that: at most. */
#define ON_ITS_WAY_NS 50000

/* Another CPU has woken it while it was on its way to sleep. */
static __always_inline bool woken_on_its_way(struct thread *thread)
{
	return thread->since - thread->woken <= ON_ITS_WAY_NS;
}

/* It is on a CPU, and of the changes that led there we can't go by one: it was not told that it was woken, or only on its
 * way to sleep, or not that it got the CPU. The kernel counts how long it waited between these two. (It does so from
 * when the thread is in a queue: another CPU's may be later than the wake-up by an interrupt, which then seems to be
 * time on the CPU.) If neither was told, one would have to know the kernel's own clock. */
static __noinline int back_late(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 runs = runs_of(task), waited = waited_of(task) - thread->waited;
	u64 expected, since = thread->since, woken = thread->woken, at = thread->arrived;

	if (at) {
		expected = thread->runs;
		woken = waited < at - since ? at - waited : since;
		if (!woken_on_its_way(thread) || woken > since + ON_ITS_WAY_NS)
			__builtin_memset(&thread->waker, 0, sizeof(thread->waker));
	} else {
		expected = thread->runs + 1;
		if (is_ready(thread->off))
			woken = since;
		at = woken + waited;
		if (at > now && at <= now + ON_ITS_WAY_NS)
			at = now;
	}
	thread->runs = runs;
	if (runs == expected && since <= woken && woken <= at && at <= now)
		back(thread, task, woken, at);
	else
		unseen(thread, now);
	return 0;
}

/* It runs, and did so up to `now`. */
static __always_inline void ran(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 runs = runs_of(task);
	s64 more;

	/* Otherwise all of its time is counted as if it ran, and nobody is told of it. */
	if (sees_sched && thread->off != ON_CPU) {
		back_late(thread, task, now);
	} else if (sees_sched && (s64)(runs - thread->runs) > 0) {
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
	/* Still that of the last time, and so is how long it has waited: trace_sched_switch() comes before
	 * sched_info_switch(). */
	u64 runs = runs_of(task);

	if (thread->off == ON_CPU || thread->arrived || runs > thread->runs)
		unseen(thread, now);
	else if (is_ready(thread->off) || (thread->since <= thread->woken && thread->woken <= now))
		back(thread, task, thread->woken, now);
	else if (runs)
		thread->arrived = now;
	else if (woken_on_its_way(thread))
		back(thread, task, thread->since, now);
	else
		unseen(thread, now);
	thread->runs = runs + waits(task);
}

/* It has been on a CPU since it left one, and it was not told. */
static __always_inline bool is_back(struct thread *thread, struct task_struct *task)
{
	return thread->off != ON_CPU && (thread->arrived || runs_of(task) > thread->runs);
}
