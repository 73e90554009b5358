/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Reports a kernel span: in a record of its own, or, if it was short, added to the span's summary. */
#pragma once

static __always_inline u64 image_of(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	return leader->start_time + leader->self_exec_id;
}

/* For a thread that is not the current one. */
static __always_inline void fill_owner(struct task_struct *task, struct owner *owner)
{
	owner->pid = task->tgid;
	owner->tid = task->pid;
	__builtin_memcpy(owner->comm, task->comm, sizeof(owner->comm));
	owner->image = image_of(task);
}

static __always_inline void fill_current_owner(struct owner *owner)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();

	owner->pid = pid_tgid >> 32;
	owner->tid = pid_tgid;
	bpf_get_current_comm(owner->comm, sizeof(owner->comm));
	owner->image = image_of(bpf_get_current_task_btf());
}

/* A record to fill further; or NULL, with the loss counted. */
static __always_inline struct record_kernel *begin_record(const struct kernel_span *span)
{
	struct record_kernel *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_loss(LOST_RING_FULL_KERNEL);
		return NULL;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = RECORD_KERNEL;
	record->span = *span;
	return record;
}

static const struct record_summary empty_summary;

/* Two CPUs may add to the same slot at once: two threads may have entered the span, or a request may end on another
 * CPU. */
static __always_inline bool add_to_slot(struct slot *slot, const struct kernel_span *span)
{
	u64 took = span->end - span->start;

	if (!slot->kind && __sync_val_compare_and_swap(&slot->kind, 0, span->kind) == 0) {
		slot->number = span->number;
		slot->first = span->start;
	} else if (slot->kind != span->kind || slot->number != span->number) {
		return false;
	}
	__sync_fetch_and_add(&slot->count, 1);
	__sync_fetch_and_add(&slot->total, took);
	if (took > slot->longest)
		slot->longest = took;
	if (span->end > slot->last)
		slot->last = span->end;
	return true;
}

/* User space takes the summary once the span has ended. */
static __always_inline void report_summarized(const struct kernel_span *span)
{
	struct record_summarized *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	/* Without it, user space finds the summary some seconds later. */
	if (!record)
		return;
	record->kind = RECORD_SUMMARIZED;
	record->pid = span->owner.pid;
	record->image = span->owner.image;
	record->span_id = span->ids.span_id;
	submit(record);
}

static __noinline int add_to_summary(const struct kernel_span *span)
{
	u64 span_id = span->ids.span_id;
	struct record_summary *summary;

	summary = bpf_map_lookup_elem(&summaries, &span_id);
	if (!summary) {
		bpf_map_update_elem(&summaries, &span_id, &empty_summary, BPF_NOEXIST);
		summary = bpf_map_lookup_elem(&summaries, &span_id);
		if (!summary) {
			count_loss(LOST_NO_SUMMARY);
			return 0;
		}
		summary->kind = RECORD_SUMMARY;
		summary->ids = span->ids;
		summary->owner = span->owner;
		report_summarized(span);
	}
	for (int i = 0; i < SLOTS; i++)
		if (add_to_slot(&summary->slots[i], span))
			return 0;
	count_loss(LOST_NO_SUMMARY);
	return 0;
}

/* Like `begin_record`; but adds a short kernel span to the summary and returns NULL. */
static __always_inline struct record_kernel *begin_or_summarize(const struct kernel_span *span)
{
	if (span->end - span->start < min_ns) {
		add_to_summary(span);
		return NULL;
	}
	return begin_record(span);
}
