/* How a span spent the time in which it was entered: what its thread had when it went into it, part by part,
 * subtracted from what it has when it leaves. So the parts add up to the time between by construction, in
 * any nesting. */
#pragma once

/* The thread leaves a span. */
static __always_inline void settle(struct thread *thread, const struct frame *frame, u32 pid)
{
	u64 span_id = frame->who.span_id;
	struct kept_account *kept = bpf_map_lookup_elem(&accounts, &span_id);
	u64 since;

	if (!kept) {
		struct kept_account fresh = { .pid = pid, .image = image_of(bpf_get_current_task_btf()) };

		/* Another thread may be as far. */
		bpf_map_update_elem(&accounts, &span_id, &fresh, BPF_NOEXIST);
		kept = bpf_map_lookup_elem(&accounts, &span_id);
		if (!kept) {
			lose(LOST_NO_ACCOUNT);
			return;
		}
	}
	since = kept->account.since;
	if (!since || frame->since < since)
		__sync_val_compare_and_swap(&kept->account.since, since, frame->since);
	__sync_fetch_and_add(&kept->account.exits, 1);
	for (int i = 0; i < PARTS; i++) {
		s64 more = thread->part[i] - frame->part[i];

		if (more > 0)
			__sync_fetch_and_add(&kept->account.part[i], more);
	}
}

/* When the span was first seen entered, which a thread is in. */
static __always_inline u64 since_of(const struct frame *frame)
{
	u64 span_id = frame->who.span_id;
	struct kept_account *kept = bpf_map_lookup_elem(&accounts, &span_id);
	u64 since = kept ? kept->account.since : 0;

	return since && since < frame->since ? since : frame->since;
}

/* The span has ended. */
static __always_inline void take_account(u64 span_id, struct account *account)
{
	struct kept_account *kept = sees_kernel ? bpf_map_lookup_elem(&accounts, &span_id) : NULL;

	if (kept) {
		*account = kept->account;
		bpf_map_delete_elem(&accounts, &span_id);
	} else {
		__builtin_memset(account, 0, sizeof(*account));
	}
}

/* It has, and can't be told. */
static __always_inline void forget_account(u64 span_id)
{
	bpf_map_delete_elem(&accounts, &span_id);
}
