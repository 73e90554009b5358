/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* The states of a thread that is followed. When it is back on a CPU, the time off the CPU is reported for the spans that
 * it is in. */
#pragma once

/* linux/sched.h */
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_NOLOAD 0x400
#define TASK_RTLOCK_WAIT 0x1000
#define PF_KTHREAD 0x00200000

/* How often the thread was given a CPU after a wait; 0 if the kernel doesn't count it. */
static __always_inline u64 runs_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.pcount) ? task->sched_info.pcount : 0;
}

/* How long the thread has waited for a CPU in its whole life, including preemptions. (Since Linux 6.12 a sleeping
 * thread may be moved to another CPU, and the kernel counts it as waiting from then on. If the wake-up is missed, the
 * account has the same error.) */
static __always_inline u64 waited_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
}

/* Whether the kernel counts it as waiting. It doesn't if the thread lost the CPU on its way to sleep. */
static __always_inline bool is_queued(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.last_queued) && task->sched_info.last_queued;
}

extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;

/* Keeps the current thread on its CPU, so that sched.h never sees an entry that the probe has half changed. Before Linux
 * 6.0 probes run without preemption anyway. From 6.0 to 6.9 it can't be disabled, and a preemptible kernel may then
 * count such a moment wrongly. */
static __always_inline void disable_preemption(void)
{
	if (bpf_ksym_exists(bpf_preempt_disable))
		bpf_preempt_disable();
}

static __always_inline void enable_preemption(void)
{
	if (bpf_ksym_exists(bpf_preempt_enable))
		bpf_preempt_enable();
}

static __always_inline u32 state_off_cpu(struct thread *thread, struct task_struct *task, bool preempt, unsigned int state)
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
	/* Outside of spans nobody asks. */
	return thread->depth ? state_asleep(task) : SLEEPING;
}

static __always_inline void report_wait(struct thread *thread, struct task_struct *task, u32 kind, u64 start,
					u64 end)
{
	struct kernel_span span = { .kind = kind, .ids = *innermost(thread), .start = start, .end = end };
	struct record_kernel *record;

	if (!thread->depth)
		return;
	fill_owner(task, &span.owner);
	record = begin_or_summarize(&span);
	if (!record)
		return;
	if (kind != PREEMPTED && kind != THROTTLED && kind != RUN_QUEUE)
		record->waker = thread->waker;
	submit(record);
}

/* The thread is on a CPU now. */
static __always_inline void set_on_cpu(struct thread *thread)
{
	thread->state = ON_CPU;
	thread->woken = 0;
	thread->got_cpu = 0;
}

/* The current thread has registered. */
static __always_inline void start_following(struct thread *thread, struct task_struct *task)
{
	set_on_cpu(thread);
	thread->runs = runs_of(task);
	thread->since = bpf_ktime_get_ns();
}

/* linux/sched.h: threads of the kernel that belong to the process, and have the thread pointer of another of its threads. */
#define PF_IO_WORKER 0x10
#define PF_USER_WORKER 0x4000

/* Follows the current thread from now on if it is one of the process without the layer. Only since Linux 6.4 may this
 * allocate where the scheduler calls it: user space sees to that. */
static __always_inline struct thread *follow_foreign(struct task_struct *task)
{
	struct thread *thread;
	u64 image;

	if (!foreign_pid || task->tgid != foreign_pid || stops_following)
		return NULL;
	if (task->flags & (PF_EXITING | PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER))
		return NULL;
	image = image_of(task);
	if (!foreign_image)
		foreign_image = image;
	/* After an exec, the variable may be anywhere. */
	if (image != foreign_image)
		return NULL;
	thread = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!thread) {
		count_loss(LOST_NO_THREAD);
		return NULL;
	}
	if (!thread->is_foreign) {
		thread->is_foreign = 1;
		thread->call = -1;
		start_following(thread, task);
	}
	return thread;
}

/* The thread is on a CPU; its state is followed from `now` on. */
static __always_inline void follow_on_cpu(struct thread *thread, u64 now)
{
	thread->since = now;
	set_on_cpu(thread);
}

/* The thread is on a CPU; its state up to `now` is unknown. In which spans it was is known when it is next looked at. */
static __always_inline void count_unseen(struct thread *thread, u64 now)
{
	if (now > thread->since) {
		count_loss(LOST_STRETCHES);
		if (!thread->unseen_from)
			thread->unseen_from = thread->since;
		thread->unseen_to = now;
	}
	follow_on_cpu(thread, now);
}

/* Whether a thread in this state could run all the time. */
static __always_inline bool is_ready(u32 state)
{
	return state == PREEMPTED || state == THROTTLED;
}

/* The thread was off the CPU and got one at `on_cpu`. If it slept, it was woken at `woken`. */
static __noinline int return_to_cpu(struct thread *thread, struct task_struct *task, u64 woken, u64 on_cpu)
{
	u64 since = thread->since;
	u32 state = thread->state;

	set_on_cpu(thread);
	thread->since = on_cpu;
	if (is_ready(state)) {
		report_time(thread, task, state, on_cpu - since, 0, NULL);
		report_wait(thread, task, state, since, on_cpu);
		return 0;
	}
	report_time(thread, task, state, woken - since, on_cpu - woken, &thread->waker);
	report_wait(thread, task, state, since, woken);
	if (on_cpu > woken)
		report_wait(thread, task, RUN_QUEUE, woken, on_cpu);
	return 0;
}

/* The longest time from the wake-up of a thread that is on its way to sleep to the event of its switch; also covers the
 * difference between the kernel's clock and ours. */
#define SLEEP_ENTRY_NS 50000

/* Whether another CPU woke it while it was on its way to sleep. */
static __always_inline bool woken_before_sleep(struct thread *thread)
{
	return thread->since - thread->woken <= SLEEP_ENTRY_NS;
}

/* The thread is on a CPU, and one of the events that led there was missed: its wake-up, which may also have come while
 * it was on its way to sleep, or the switch to it. The kernel counts how long it waited between the two, which gives
 * the missing time. (The count starts when the thread is queued. On another CPU's queue that may be an interrupt later
 * than the wake-up; that much then counts as time on the CPU.) If both were missed, their times are unknown. */
static __noinline int reconstruct_return(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 runs = runs_of(task), waited = waited_of(task) - thread->waited;
	u64 expected, since = thread->since, woken = thread->woken, on_cpu = thread->got_cpu;

	if (on_cpu) {
		expected = thread->runs;
		woken = waited < on_cpu - since ? on_cpu - waited : since;
		if (!woken_before_sleep(thread) || woken > since + SLEEP_ENTRY_NS)
			__builtin_memset(&thread->waker, 0, sizeof(thread->waker));
	} else {
		expected = thread->runs + 1;
		if (is_ready(thread->state))
			woken = since;
		on_cpu = woken + waited;
		if (on_cpu > now && on_cpu <= now + SLEEP_ENTRY_NS)
			on_cpu = now;
	}
	thread->runs = runs;
	if (runs == expected && since <= woken && woken <= on_cpu && on_cpu <= now)
		return_to_cpu(thread, task, woken, on_cpu);
	else if (runs == expected && thread->is_outside)
		/* Outside of spans, wake-ups are not looked at. It has entered a span only after its one return. */
		follow_on_cpu(thread, now);
	else
		count_unseen(thread, now);
	return 0;
}

/* The current thread runs: completes what was missed of its way there, for the spans that it was in before. */
static __always_inline void catch_up(struct thread *thread, struct task_struct *task, u64 now)
{
	u64 runs = runs_of(task);

	if (!sees_switches)
		return;
	if (thread->state != ON_CPU) {
		reconstruct_return(thread, task, now);
	} else if ((s64)(runs - thread->runs) > 0) {
		thread->runs = runs;
		count_unseen(thread, now);
	}
}

/* Looks at the current thread. What it missed comes first, because it belongs to the spans of the last look. */
static __always_inline void update(struct thread *thread, struct task_struct *task, u64 now)
{
	catch_up(thread, task, now);
	look(thread, now);
}

/* The entry of the current thread, if it is in a span; else NULL. */
static __always_inline struct thread *in_span(struct task_struct *task)
{
	struct thread *thread = followed(task);

	if (!thread)
		thread = follow_foreign(task);
	if (!thread)
		return NULL;
	update(thread, task, bpf_ktime_get_ns());
	return thread->depth ? thread : NULL;
}

static __always_inline void leave_cpu(struct thread *thread, struct task_struct *task, bool preempt,
				      unsigned int state, u64 now)
{
	update(thread, task, now);
	thread->since = now;
	thread->waited = waited_of(task);
	thread->state = state_off_cpu(thread, task, preempt, state);
}

static __always_inline void get_cpu(struct thread *thread, struct task_struct *task, u64 now)
{
	/* Both this and its wait are still those of the last time: trace_sched_switch() comes before
	 * sched_info_switch(). */
	u64 runs = runs_of(task);

	if (thread->state == ON_CPU || thread->got_cpu || runs > thread->runs)
		count_unseen(thread, now);
	else if (is_ready(thread->state) || (thread->since <= thread->woken && thread->woken <= now))
		return_to_cpu(thread, task, thread->woken, now);
	else if (runs)
		thread->got_cpu = now;
	else if (woken_before_sleep(thread))
		return_to_cpu(thread, task, thread->since, now);
	else
		count_unseen(thread, now);
	thread->runs = runs + is_queued(task);
}

/* Whether it has been on a CPU since it last left one, though the events for that are incomplete. */
static __always_inline bool has_returned(struct thread *thread, struct task_struct *task)
{
	return thread->state != ON_CPU && (thread->got_cpu || runs_of(task) > thread->runs);
}
