/* Where threads are when they are not on a CPU. */
#pragma once

/* linux/sched.h */
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_NOLOAD 0x400

/* Of the kernel, for each thread: THREAD_SIZE, on x86-64 and on arm64 with pages of 4 KiB. */
#define STACK_BYTES (16 << 10)

#define PF_KTHREAD 0x00200000

/* Whether an interrupt has this CPU, so that the current thread is there by chance: then the arguments of a
 * tracepoint, `ctx`, are not on the thread's own stack; or, on x86-64, they are, but it came there from user
 * space without a system call. (__preempt_count says it, too, but can be read only where the kernel was built
 * with CONFIG_KALLSYMS_ALL.) */
static __always_inline bool in_interrupt(void *ctx, struct thread *scratch)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 stack = (u64)BPF_CORE_READ(task, stack);

	/* The verifier doesn't let us subtract from a pointer, but what was written is a number. */
	*(volatile u64 *)&scratch->scratch = (u64)ctx;
	if (*(volatile u64 *)&scratch->scratch - stack >= STACK_BYTES)
		return true;
#if defined(__TARGET_ARCH_x86)
	if (!(task->flags & PF_KTHREAD)) {
		struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

		return (s64)BPF_CORE_READ(regs, orig_ax) < 0;
	}
#endif
	return false;
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

/* Of a thread that is not the current one. */
static __always_inline void whose_of(struct task_struct *task, struct whose *whose)
{
	whose->pid = task->tgid;
	whose->tid = task->pid;
	__builtin_memcpy(whose->comm, task->comm, sizeof(whose->comm));
	whose->image = image_of(task);
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
	if (woken == 0 || woken > now)
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
