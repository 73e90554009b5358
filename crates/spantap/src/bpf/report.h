/* Telling user space of something that the kernel did in a span: by itself, or, where it was short,
 * added to others like it. */
#pragma once

/* A record to be filled further, or NULL: then the loss is counted. */
static __always_inline struct record_kernel *begin_record(const struct kernel_span *span)
{
	struct record_kernel *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		lose(LOST_RING_FULL_KERNEL);
		return NULL;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = RECORD_KERNEL;
	record->span = *span;
	return record;
}

static const struct record_small no_smalls;

/* Two processors may add to the same slot at once: what was entered by two threads, or a request that
 * ends elsewhere. */
static __always_inline bool add_to_slot(struct slot *slot, const struct kernel_span *span)
{
	u64 took = span->end - span->start;

	if (!slot->what && __sync_val_compare_and_swap(&slot->what, 0, span->what) == 0) {
		slot->number = span->number;
		slot->first = span->start;
	} else if (slot->what != span->what || slot->number != span->number) {
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

static __noinline int add_small(const struct kernel_span *span)
{
	u64 span_id = span->who.span_id;
	struct record_small *small;

	small = bpf_map_lookup_elem(&smalls, &span_id);
	if (!small) {
		bpf_map_update_elem(&smalls, &span_id, &no_smalls, BPF_NOEXIST);
		small = bpf_map_lookup_elem(&smalls, &span_id);
		if (!small) {
			lose(LOST_NO_SMALL);
			return 0;
		}
		small->kind = RECORD_SMALL;
		small->who = span->who;
		small->whose = span->whose;
	}
	for (int i = 0; i < SLOTS; i++)
		if (add_to_slot(&small->slots[i], span))
			return 0;
	lose(LOST_NO_SMALL);
	return 0;
}

/* As `begin_record`, unless it is short: then NULL, too. */
static __always_inline struct record_kernel *begin_or_add(const struct kernel_span *span)
{
	if (span->end - span->start < min_ns) {
		add_small(span);
		return NULL;
	}
	return begin_record(span);
}

/* Its short ones have ended with the span. */
static __always_inline void report_smalls(u64 span_id)
{
	struct record_small *small;

	if (!sees_kernel)
		return;
	small = bpf_map_lookup_elem(&smalls, &span_id);
	if (!small)
		return;
	if (bpf_ringbuf_output(&records, small, sizeof(*small), BPF_RB_NO_WAKEUP))
		lose(LOST_RING_FULL_KERNEL);
	bpf_map_delete_elem(&smalls, &span_id);
}
