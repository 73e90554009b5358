/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* When threads get a CPU, lose it, and are woken. */
#pragma once

/* The size of a thread's kernel stack: THREAD_SIZE on x86-64, and on arm64 with pages of 4 KiB. */
#define STACK_BYTES (16 << 10)

/* Whether the CPU is in an interrupt: then an interrupt, not the current thread, causes the event. In an interrupt the
 * tracepoint's arguments, `ctx`, are not on the thread's own stack; or, on x86-64, they are, but the thread came to
 * the kernel without a system call. (__preempt_count would show it, too, but only kernels with CONFIG_KALLSYMS_ALL let
 * us read it.) */
static __always_inline bool in_interrupt(void *ctx, struct thread *scratch)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 stack = (u64)BPF_CORE_READ(task, stack);

	/* The verifier forbids subtracting from a pointer; a value that was stored and loaded is a number. */
	*(volatile u64 *)&scratch->scratch = (u64)ctx;
	if (*(volatile u64 *)&scratch->scratch - stack >= STACK_BYTES)
		return true;
#if defined(__TARGET_ARCH_x86)
	if (!(task->flags & PF_KTHREAD)) {
		struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

		return call_of(regs) < 0;
	}
#endif
	return false;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int state)
{
	struct thread *leaves = misses_leaves && (runs_of(prev) & 1) ? NULL : followed(prev);
	struct thread *gets = misses_returns && (runs_of(next) & 1) ? NULL : followed(next);

	if (!leaves)
		leaves = follow_foreign(prev);
	if (leaves)
		leave_cpu(leaves, prev, preempt, state, bpf_ktime_get_ns());
	if (gets)
		get_cpu(gets, next, bpf_ktime_get_ns());
	return 0;
}

/* Runs in the context of the waker. */
SEC("tp_btf/sched_waking")
int BPF_PROG(sched_waking, struct task_struct *task)
{
	struct thread *thread = followed(task), *own;
	struct ids none = {};
	struct waker *waker;
	u64 pid_tgid;

	/* If it runs already, this wake-up did not end its sleep. */
	if (!thread || !thread->depth || has_returned(thread, task))
		return 0;
	pid_tgid = bpf_get_current_pid_tgid();
	waker = &thread->waker;
	waker->pid = pid_tgid >> 32;
	waker->tid = pid_tgid;
	bpf_get_current_comm(waker->comm, sizeof(waker->comm));
	waker->in_interrupt = in_interrupt(ctx, thread);
	own = waker->in_interrupt ? NULL : in_span(bpf_get_current_task_btf());
	/* Several threads may be in the span that waits. And an id of 0 is one that the thread was just writing. */
	if (own && (!innermost(own)->span_id || innermost(own)->span_id == innermost(thread)->span_id))
		own = NULL;
	waker->span = own ? *innermost(own) : none;
	waker->image = own ? image_of(bpf_get_current_task_btf()) : 0;
	waker->name = own ? own->innermost_name : 0;
	thread->woken = bpf_ktime_get_ns();
	return 0;
}
