/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* A process of any language that has OpenTelemetry's thread context (OTEP 4947) and not the layer: which span a thread is
 * in, from the variable whose place user space has found. */
#pragma once

/* A record of OTEP 4947, without its attributes. */
struct foreign_record {
	u64 trace_high; /* big-endian, as the other ids */
	u64 trace_low;
	u64 span_id;
	u8 valid;
	u8 flags;
	u16 attributes;
} __attribute__((packed));

#define SAMPLED 1

/* Where glibc keeps the addresses of the variables of each module: in a table, whose address is here. */
#if defined(__TARGET_ARCH_x86)
#define MODULES_AT 8
#else
#define MODULES_AT 0
#endif
#define MODULE_BYTES 16

static __always_inline u64 thread_pointer(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return task->thread.fsbase;
#else
	return task->thread.uw.tp_value;
#endif
}

static __always_inline bool is_module_absent(u64 block)
{
	/* glibc allocates a module's variables when the thread first uses them, and writes -1 until then. */
	return !block || block == (u64)-1;
}

/* Reads which span the current thread is in. */
static __noinline int look_foreign(struct thread *thread)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 base = thread_pointer(task), table, modules, address, id;
	struct foreign_record record;

	thread->depth = 0;
	thread->unseen_from = 0;
	/* Before a program has set it up, the thread pointer is 0. */
	if (!base || (task->flags & PF_EXITING))
		return 0;
	if (foreign_module) {
		if (bpf_probe_read_user(&table, sizeof(table), (void *)(base + MODULES_AT)))
			goto unreadable;
		/* Its length comes before it. It grows when the thread first uses a library that was loaded later. */
		if (bpf_probe_read_user(&modules, sizeof(modules), (void *)(table - MODULE_BYTES)))
			goto unreadable;
		if (foreign_module > modules)
			goto outside;
		if (bpf_probe_read_user(&base, sizeof(base), (void *)(table + MODULE_BYTES * foreign_module)))
			goto unreadable;
		if (is_module_absent(base))
			goto outside;
	}
	if (bpf_probe_read_user(&address, sizeof(address), (void *)(base + foreign_distance)))
		goto unreadable;
	if (!address)
		goto outside;
	if (bpf_probe_read_user(&record, sizeof(record), (void *)address))
		goto unreadable;
	if (record.valid != 1 || !record.span_id || !(record.trace_high | record.trace_low))
		return 0;
	/* The program does not export spans that are not sampled. Programs from before this was agreed have no flags. */
	if (record.flags & SAMPLED)
		foreign_has_flags = true;
	else if (foreign_has_flags)
		return 0;
	id = bpf_be64_to_cpu(record.span_id);
	if (id != thread->innermost.span_id)
		thread->innermost_began = bpf_ktime_get_ns(); /* at the latest */
	thread->innermost.span_id = id;
	thread->innermost.trace_high = bpf_be64_to_cpu(record.trace_high);
	thread->innermost.trace_low = bpf_be64_to_cpu(record.trace_low);
	thread->innermost_since = 0;
	thread->innermost_name = 0;
	thread->depth = 1;
	return 0;
outside:
	thread->is_outside = 1;
	return 0;
unreadable:
	count_loss(LOST_UNREADABLE_STACK);
	return 0;
}
