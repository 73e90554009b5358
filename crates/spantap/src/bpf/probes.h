/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* The probes of the contract: threads register, and batches of spans that have ended are reported. */
#pragma once

/* An argument of a probe. libbpf's bpf_usdt_arg() looks up the specification again for each one, which takes 60 ns.
 * The arguments of the contract are all in registers. */
static __always_inline u64 argument(struct pt_regs *ctx, const struct __bpf_usdt_spec *spec, u32 number)
{
	const struct __bpf_usdt_arg_spec *arg = &spec->args[number];
	u64 value = 0;
	long other;

	if (arg->arg_type == BPF_USDT_ARG_REG) {
		bpf_probe_read_kernel(&value, sizeof(value), (void *)ctx + arg->reg_off);
		return value;
	}
	return bpf_usdt_arg(ctx, number, &other) ? 0 : other;
}

static __always_inline const struct __bpf_usdt_spec *arguments(struct pt_regs *ctx)
{
	int id = __bpf_usdt_spec_id(ctx);

	return bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
}

/* The current thread tells where it says which spans it is in. It does so again every 100 ms. */
SEC("usdt")
int thread_register(struct pt_regs *ctx)
{
	const struct __bpf_usdt_spec *spec = arguments(ctx);
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *thread;
	u64 block, word, build, now;

	if (!spec)
		return 0;
	if (spec->arg_cnt < 2 || argument(ctx, spec, 1) != LAYOUT) {
		count_loss(LOST_OTHER_LAYOUT);
		return 0;
	}
	block = argument(ctx, spec, 0);
	if (bpf_probe_read_user(&word, sizeof(word), (void *)block)) {
		count_loss(LOST_UNREADABLE_STACK);
		return 0;
	}
	build = bpf_usdt_cookie(ctx);
	thread = followed(task);
	if (thread && thread->block == block && thread->owner == word >> OWNER_SHIFT && thread->build == build) {
		/* It has its memory back. */
		if (thread->is_unreadable) {
			disable_preemption();
			update(thread, task, bpf_ktime_get_ns());
			enable_preemption();
		}
		return 0;
	}
	thread = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!thread) {
		count_loss(LOST_NO_THREAD);
		return 0;
	}
	disable_preemption();
	thread->block = block;
	thread->owner = word >> OWNER_SHIFT;
	thread->too_deep = 0;
	thread->reported_name = 0;
	thread->build = build;
	forget_unseen(thread);
	thread->call = -1;
	now = bpf_ktime_get_ns();
	start_following(thread, task);
	look(thread, now);
	/* It registers at an enter. It was in other spans before, which are all that are listed if there are too many. */
	if (thread->depth > 1 || thread->too_deep)
		report_unseen(thread, RECORD_GAP, 0, thread->too_deep ? bpf_ktime_get_ns() : thread->innermost_since);
	enable_preemption();
	return 0;
}

/* The size of a record must be known when this is compiled. Before Linux 6.16 a dynptr, which has a size that is
 * known at run time, could not be filled from user space; and there is no buffer to copy through, because two threads
 * of one CPU may be here at once. */
#define EMIT_IN(size)                                                                                       \
	if (length <= (size) - sizeof(struct record_batch)) {                                               \
		record = bpf_ringbuf_reserve(&records, (size), 0);                                          \
		if (!record)                                                                                \
			goto full;                                                                          \
		if (bpf_probe_read_user(record->bytes, length, batch))                                      \
			goto unreadable;                                                                    \
		goto submit;                                                                                \
	}

/* The sender's thread has a batch of closed spans. */
SEC("usdt")
int batch_emit(struct pt_regs *ctx)
{
	const struct __bpf_usdt_spec *spec = arguments(ctx);
	u64 uid_gid = bpf_get_current_uid_gid();
	struct record_batch *record;
	const char *batch;
	u32 length;
	u64 spans;

	if (!spec)
		return 0;
	batch = (const char *)argument(ctx, spec, 0);
	length = argument(ctx, spec, 1);
	spans = argument(ctx, spec, 2);
	/* Puts it in a register, so that the verifier sees its bound. */
	asm volatile("" : "+r"(length));
	EMIT_IN(1024)
	EMIT_IN(2048)
	EMIT_IN(4096)
	EMIT_IN(8192)
	EMIT_IN(16384)
	/* Most batches are a little over 32 KiB. */
	EMIT_IN(34816)
	EMIT_IN(65536)
	EMIT_IN(131072)
	EMIT_IN(262144)
	count_losses(LOST_TOO_LONG, spans);
	return 0;
submit:
	record->kind = RECORD_BATCH;
	record->length = length;
	record->uid = uid_gid;
	record->gid = uid_gid >> 32;
	fill_current_owner(&record->owner);
	record->lost = losses[LOST_RING_FULL_TIMES] + losses[LOST_UNREADABLE_STACK] + losses[LOST_NO_THREAD];
	record->now = bpf_ktime_get_ns();
	submit(record);
	return 0;
full:
	count_losses(LOST_RING_FULL_SPANS, spans);
	return 0;
unreadable:
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	count_losses(LOST_UNREADABLE, spans);
	return 0;
}

/* Does nothing. The kernel counts it as a consumer of a callsite, so the program makes the callsite's spans. */
SEC("uprobe.multi")
int callsite_on(struct pt_regs *ctx)
{
	return 0;
}
