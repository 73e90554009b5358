/* The probes of the contract: which spans a thread is in, and those that end. */
#pragma once

/* An argument of a probe. libbpf's bpf_usdt_arg() looks up anew for each where they are, which takes 60 ns;
 * those of the contract are all in registers. */
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

static __always_inline void fill_whose(struct whose *whose)
{
	u64 ids = bpf_get_current_pid_tgid();

	whose->pid = ids >> 32;
	whose->tid = ids;
	bpf_get_current_comm(whose->comm, sizeof(whose->comm));
	whose->image = image_of(bpf_get_current_task_btf());
}

/* The thread goes into a span. */
static __always_inline void go_in(struct thread *thread, struct task_struct *task, const struct who *who)
{
	struct frame *frame;

	if (!is_in_span(thread)) {
		thread->depth = 0;
		thread->call = -1;
		thread->too_deep = 0;
		begins(thread, task);
	} else {
		ran(thread, task, bpf_ktime_get_ns());
	}
	if (thread->depth >= DEPTH) {
		thread->too_deep++;
		lose(LOST_TOO_DEEP);
		return;
	}
	frame = &thread->stack[thread->depth & (DEPTH - 1)];
	frame->who = *who;
	frame->since = thread->since;
	for (int i = 0; i < PARTS; i++)
		frame->part[i] = thread->part[i];
	thread->depth++;
}

SEC("usdt")
int enter(struct pt_regs *ctx)
{
	const struct __bpf_usdt_spec *spec = arguments(ctx);
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *thread;
	struct who who;

	if (!spec)
		return 0;
	thread = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!thread) {
		lose(LOST_NO_THREAD);
		return 0;
	}
	who.span_id = argument(ctx, spec, 0);
	who.trace_high = argument(ctx, spec, 2);
	who.trace_low = argument(ctx, spec, 3);
	keep_cpu();
	go_in(thread, task, &who);
	let_go_of_cpu();
	return 0;
}

#define NOWHERE DEPTH

/* Where in its stack a thread has a span. */
struct search {
	struct thread *thread;
	u64 span_id;
	u32 depth;
	u32 found;
};

static long look_at_frame(u32 index, struct search *search)
{
	u32 at = search->depth - 1 - index;

	if (search->thread->stack[at & (DEPTH - 1)].who.span_id != search->span_id)
		return 0;
	search->found = at;
	return 1;
}

/* The innermost of its frames below `depth`, or NOWHERE. */
static __always_inline u32 find(struct thread *thread, u64 span_id, u32 depth)
{
	struct search search = { .thread = thread, .span_id = span_id, .depth = depth, .found = NOWHERE };

	/* The verifier follows each round of an ordinary loop, which were too many. */
	if (depth)
		bpf_loop(depth, look_at_frame, &search, 0);
	return search.found;
}

static long move_frame(u32 index, struct search *search)
{
	u32 to = search->found + index;

	search->thread->stack[to & (DEPTH - 1)] = search->thread->stack[(to + 1) & (DEPTH - 1)];
	return 0;
}

/* Takes a span out that is not the innermost. Guards may be dropped in any order. */
static __noinline int leave_outer(struct thread *thread, u64 span_id, u32 pid)
{
	u32 depth = thread->depth;
	struct search search = { .thread = thread, .found = find(thread, span_id, depth) };

	if (search.found == NOWHERE) {
		/* It was entered before we looked, or was too deep. */
		if (thread->too_deep)
			thread->too_deep--;
		return 0;
	}
	/* In it a second time, it goes on. */
	if (find(thread, span_id, search.found) == NOWHERE)
		settle(thread, &thread->stack[search.found & (DEPTH - 1)], pid);
	if (search.found + 1 < depth)
		bpf_loop(depth - 1 - search.found, move_frame, &search, 0);
	thread->depth = depth - 1;
	return 0;
}

/* The thread goes out of a span. */
static __always_inline void go_out(struct thread *thread, struct task_struct *task, u64 span_id)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct frame *frame;
	u32 top;

	ran(thread, task, bpf_ktime_get_ns());
	top = thread->depth - 1;
	frame = &thread->stack[top & (DEPTH - 1)];
	if (frame->who.span_id != span_id || thread->too_deep) {
		leave_outer(thread, span_id, pid);
		return;
	}
	if (find(thread, span_id, top) == NOWHERE)
		settle(thread, frame, pid);
	thread->depth = top;
}

SEC("usdt")
int leave(struct pt_regs *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *thread = in_span(task);
	const struct __bpf_usdt_spec *spec = arguments(ctx);
	u64 span_id;

	if (!thread || !spec)
		return 0;
	span_id = argument(ctx, spec, 0);
	keep_cpu();
	go_out(thread, task, span_id);
	let_go_of_cpu();
	return 0;
}

static __always_inline void fill_span(struct record_span *record, u32 kind, const struct who *who, u32 length)
{
	u64 ids = bpf_get_current_uid_gid();

	record->kind = kind;
	record->length = length;
	record->uid = ids;
	record->gid = ids >> 32;
	record->who = *who;
	fill_whose(&record->whose);
	record->now = bpf_ktime_get_ns();
	take_account(who->span_id, &record->account);
	record->parent_id = 0;
	record->knows_parent = 0;
}

/* A record has the size that it is reserved with, which must be known when this is compiled. With room
 * that is reserved at run time a kernel before 6.16 could not copy from user space into it, and there is no
 * memory to copy to on the way: two threads of one CPU may be here at once. */
#define EMIT_IN(size)                                                                                       \
	if (length <= (size) - sizeof(struct record_span)) {                                                \
		record = bpf_ringbuf_reserve(&records, (size), 0);                                          \
		if (!record)                                                                                \
			goto full;                                                                          \
		fill_span(record, RECORD_SPAN, &who, length);                                               \
		if (bpf_probe_read_user(record->text, length, json))                                        \
			goto unreadable;                                                                    \
		submit(record);                                                                             \
		return 0;                                                                                   \
	}

SEC("usdt")
int span_emit(struct pt_regs *ctx)
{
	const struct __bpf_usdt_spec *spec = arguments(ctx);
	struct record_span *record;
	struct who who = {};
	const char *json;
	u64 span_id;
	u32 length;

	if (!spec)
		return 0;
	span_id = who.span_id = argument(ctx, spec, 0);
	json = (const char *)argument(ctx, spec, 1);
	length = argument(ctx, spec, 2);
	report_smalls(span_id);
	/* Where the verifier sees the bound that it is compared with. */
	asm volatile("" : "+r"(length));
	EMIT_IN(640)
	EMIT_IN(768)
	EMIT_IN(1024)
	EMIT_IN(1536)
	EMIT_IN(2048)
	EMIT_IN(4096)
	EMIT_IN(8192)
	EMIT_IN(16384)
	EMIT_IN(32768)
	EMIT_IN(65536)
	EMIT_IN(131072)
	EMIT_IN(262144)
	forget_account(span_id);
	lose(LOST_TOO_LONG);
	return 0;
full:
	forget_account(span_id);
	lose(LOST_RING_FULL_SPANS);
	return 0;
unreadable:
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	lose(LOST_UNREADABLE);
	return 0;
}

/* Which argument of `close` is the parent's id. */
#define PARENT_ID 6

/* Of a span that began before anybody looked nothing is emitted: its duration is 0. */
SEC("usdt")
int close(struct pt_regs *ctx)
{
	const struct __bpf_usdt_spec *spec = arguments(ctx);
	struct record_span *record;
	struct who who = {};
	u64 span_id;
	long length;

	/* Its duration. */
	if (!spec || argument(ctx, spec, 2))
		return 0;
	span_id = who.span_id = argument(ctx, spec, 0);
	who.trace_high = argument(ctx, spec, 4);
	who.trace_low = argument(ctx, spec, 5);
	report_smalls(span_id);
	record = bpf_ringbuf_reserve(&records, sizeof(*record) + NAME_BYTES, 0);
	if (!record) {
		forget_account(span_id);
		lose(LOST_RING_FULL_SPANS);
		return 0;
	}
	length = bpf_probe_read_user_str(record->text, NAME_BYTES, (void *)argument(ctx, spec, 1));
	fill_span(record, RECORD_PARTIAL, &who, length > 0 ? length - 1 : 0);
	if (spec->arg_cnt > PARENT_ID) {
		record->parent_id = argument(ctx, spec, PARENT_ID);
		record->knows_parent = 1;
	}
	submit(record);
	return 0;
}
