/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Which spans a thread is in, as it says itself in its own memory; `docs/wire.md` describes that ("Thread context").
 *
 * A thread that is in the kernel can't change it. So it is read where a thread leaves the CPU, and where it does
 * something in the kernel, and is right until the thread is back in its program. */
#pragma once

#define HIDDEN_SHIFT 8
#define OWNER_SHIFT 16

/* The depth and seven ids are in one cache line. */
#define FIRST_IDS 7
#define RECORDS_AT (8 + 8 * MAX_DEPTH)
#define RECORD_BYTES 64
#define EXITS_AT (RECORDS_AT + RECORD_BYTES * MAX_DEPTH)

/* linux/sched.h */
#define PF_EXITING 0x4

/* The beginning of a record. */
struct published_record {
	u64 trace_high; /* big-endian, as the other ids */
	u64 trace_low;
	u64 span_id;
	u64 state;
	u64 since;
	u64 began;
	u64 name;
};

static __always_inline bool is_released(u64 build)
{
	return stops_following || released[build / 64 % RELEASED_WORDS] >> (build % 64) & 1;
}

/* The thread's entry, if it is followed; else NULL. */
static __always_inline struct thread *followed(struct task_struct *task)
{
	struct thread *thread = bpf_task_storage_get(&threads, task, 0, 0);

	if (!thread)
		return NULL;
	if (thread->is_foreign)
		return stops_following ? NULL : thread;
	return thread->block && !is_released(thread->build) ? thread : NULL;
}

/* The innermost span that the thread is in. */
static __always_inline struct ids *innermost(struct thread *thread)
{
	return &thread->innermost;
}

/* Reports time that the thread spent in the spans that it is in. `waker` ended it, unless it is NULL. */
static __always_inline void report_time(struct thread *thread, struct task_struct *task, u32 state, u64 time,
					u64 queued, struct waker *waker)
{
	struct record_time *record;
	u32 depth = thread->depth;

	/* The spans of others come without a time for which this would be the rest. */
	if (!depth || !(time | queued) || thread->is_foreign)
		return;
	if (depth <= FIRST_IDS)
		record = bpf_ringbuf_reserve(&records, sizeof(*record) + 8 * FIRST_IDS, 0);
	else
		record = bpf_ringbuf_reserve(&records, sizeof(*record) + 8 * MAX_DEPTH, 0);
	if (!record) {
		count_loss(LOST_RING_FULL_TIMES);
		return;
	}
	record->kind = RECORD_TIME;
	record->depth = depth;
	record->pid = task->tgid;
	record->state = state;
	record->image = image_of(task);
	record->time = time;
	record->queued = queued;
	record->name = thread->innermost_name;
	record->waker_image = waker ? waker->image : 0;
	record->waker_name = waker ? waker->name : 0;
	record->waker_pid = waker ? waker->pid : 0;
	record->unused = 0;
	if (depth <= FIRST_IDS)
		__builtin_memcpy(record->ids, thread->ids, 8 * FIRST_IDS);
	else
		bpf_probe_read_kernel(record->ids, 8 * MAX_DEPTH, thread->ids);
	submit(record);
}

/* Reports that what the current thread did from `from` to `to` is not known: the kernel did not report it, or the
 * thread's memory could not be read. Returns whether it can be read now. */
static __noinline int report_unseen(struct thread *thread, u32 kind, u64 from, u64 to)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct record_unseen *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	u32 used = RECORDS_AT + RECORD_BYTES * thread->depth;

	if (!record) {
		count_loss(LOST_RING_FULL_TIMES);
		return 1;
	}
	/* Puts it in a register, so that the verifier sees its bound. */
	asm volatile("" : "+r"(used));
	if (used > EXITS_AT)
		used = EXITS_AT;
	if (bpf_probe_read_user(record->context, used, (void *)thread->block)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		count_loss(LOST_UNREADABLE_STACK);
		return 0;
	}
	/* The exits may be in a page of their own, which only an exit gets back. */
	if (bpf_probe_read_user(record->context + EXITS_AT, CONTEXT_BYTES - EXITS_AT,
				(void *)(thread->block + EXITS_AT))) {
		count_loss(LOST_UNREADABLE_STACK);
		*(u64 *)(record->context + EXITS_AT) = UNKNOWN_EXITS;
	}
	record->kind = kind;
	record->pid = task->tgid;
	record->image = image_of(task);
	record->from = from;
	record->to = to;
	submit(record);
	return 1;
}

/* Reports the name of spans of the current thread, unless it was reported lately. Returns whether user space has it. */
static __noinline int report_name(u64 address)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct name_key key = { .image = image_of(task), .address = address };
	struct record_name *record;
	u8 known = 1;

	if (bpf_map_lookup_elem(&names, &key))
		return 1;
	record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record)
		return 0;
	if (bpf_probe_read_user_str(record->name, NAME_BYTES, (void *)address) <= 1) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 0;
	}
	record->kind = RECORD_NAME;
	record->pid = task->tgid;
	record->image = key.image;
	record->address = address;
	submit(record);
	bpf_map_update_elem(&names, &key, &known, BPF_ANY);
	return 1;
}

static __always_inline void forget_unseen(struct thread *thread)
{
	thread->unseen_from = 0;
	thread->is_unreadable = 0;
}

/* The thread's memory can't be read: it may be on a disk, from which only the thread itself gets it back. When it has,
 * it shows in which spans the thread was since then. */
static __always_inline int lose_sight(struct thread *thread, u64 now)
{
	thread->depth = 0;
	/* A thread that has ended goes on in the kernel for a while, without its memory. */
	if (bpf_get_current_task_btf()->flags & PF_EXITING) {
		forget_unseen(thread);
		return 0;
	}
	count_loss(LOST_UNREADABLE_STACK);
	if (!thread->unseen_from)
		thread->unseen_from = now;
	thread->is_unreadable = 1;
	return 0;
}

#include "foreign.h"

/* Reads which spans the current thread is in, and reports what was not seen of it until `now`: its state is followed from
 * then on, or from before. */
static __noinline int look(struct thread *thread, u64 now)
{
	u64 first[1 + FIRST_IDS];
	struct published_record record;
	u32 depth, more, too_deep;
	u64 id;

	thread->is_outside = 0;
	if (thread->is_foreign)
		return look_foreign(thread);
	/* A read that fails fills its destination with zeros. */
	if (bpf_probe_read_user(first, sizeof(first), (void *)thread->block))
		return lose_sight(thread, now);
	if (first[0] >> OWNER_SHIFT != thread->owner) {
		thread->depth = 0;
		/* The thread is ending, and its exits are still there; or the block is another thread's already. */
		if (!(first[0] >> OWNER_SHIFT))
			goto looked;
		if (thread->unseen_from)
			count_loss(LOST_UNREADABLE_STACK);
		forget_unseen(thread);
		return 0;
	}
	/* Both counts. An id that is missing stands for a span that the thread is just leaving. */
	thread->is_outside = !(first[0] & 0xffff);
	too_deep = first[0] >> HIDDEN_SHIFT & 0xff;
	if (too_deep > thread->too_deep)
		count_losses(LOST_TOO_DEEP, too_deep - thread->too_deep);
	thread->too_deep = too_deep;
	depth = first[0] & 0xff;
	if (depth > MAX_DEPTH) /* never; the verifier needs the bound */
		depth = MAX_DEPTH;
	if (depth > FIRST_IDS) {
		more = 8 * (depth - FIRST_IDS);
		/* Puts it in a register, so that the verifier sees its bound. */
		asm volatile("" : "+r"(more));
		if (more > 8 * (MAX_DEPTH - FIRST_IDS))
			more = 8 * (MAX_DEPTH - FIRST_IDS);
		if (bpf_probe_read_user(&thread->ids[FIRST_IDS], more,
					(void *)(thread->block + 8 + 8 * FIRST_IDS)))
			return lose_sight(thread, now);
	}
	__builtin_memcpy(thread->ids, &first[1], 8 * FIRST_IDS);
	/* It is just entering or leaving a span. */
	if (depth && !thread->ids[(depth - 1) & (MAX_DEPTH - 1)])
		depth--;
	if (!depth) {
		thread->depth = 0;
		goto looked;
	}
	id = thread->ids[(depth - 1) & (MAX_DEPTH - 1)];
	if (bpf_probe_read_user(&record, sizeof(record),
				(void *)(thread->block + RECORDS_AT + RECORD_BYTES * (depth - 1))))
		return lose_sight(thread, now);
	thread->depth = depth;
	thread->innermost.span_id = id;
	thread->innermost.trace_high = bpf_be64_to_cpu(record.trace_high);
	thread->innermost.trace_low = bpf_be64_to_cpu(record.trace_low);
	thread->innermost_since = record.since;
	thread->innermost_began = record.began;
	if (record.name && record.name != thread->reported_name && report_name(record.name))
		thread->reported_name = record.name;
	thread->innermost_name = record.name;
looked:
	if (thread->unseen_from) {
		if (thread->is_unreadable)
			thread->unseen_to = now;
		thread->is_unreadable = !report_unseen(thread, RECORD_UNSEEN, thread->unseen_from, thread->unseen_to);
		if (thread->is_unreadable)
			/* The records of outer spans are still on the disk. What it does until then is not seen either. */
			thread->depth = 0;
		else
			thread->unseen_from = 0;
	}
	return 0;
}
