/* When threads get a CPU, lose it, and are woken. */
#pragma once

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

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int state)
{
	bool is_missed = misses_returns && (runs_of(next) & 1);
	struct thread *leaves = in_span(prev), *gets = is_missed ? NULL : in_span(next);

	if (leaves)
		leaves_cpu(leaves, prev, preempt, state, bpf_ktime_get_ns());
	if (gets)
		gets_cpu(gets, next, bpf_ktime_get_ns());
	return 0;
}

/* In the context of who wakes it. */
SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *task)
{
	struct thread *thread = in_span(task);
	struct waker *waker;
	u64 ids;

	/* If it runs already, this did not end its sleep. */
	if (!thread || is_back(thread, task))
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
