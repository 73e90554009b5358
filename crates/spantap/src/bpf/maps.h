/* What the programs share, and what they count. */
#pragma once

#define DEPTH 64 /* a power of two */

/* A span that a thread is in. */
struct frame {
	struct who who;
	u64 since;
	u64 part[PARTS]; /* the thread's, when it went in */
};

struct thread {
	/* Its time so far, as long as it was in a span; when it changed last what it does. */
	u64 part[PARTS];
	u64 since;
	/* Where it is when it is not on a CPU, else ON_CPU. */
	u32 off;
	u32 depth;
	/* When it was woken last since it got a CPU, even if it was still on it; 0: not that we know. */
	u64 woken;
	/* When it got a CPU, if it is not known yet when it was woken. */
	u64 arrived;
	/* By the kernel's counts: how often it was given a CPU, up to when it had it last, and how long it had waited for
	 * one when it left. */
	u64 runs;
	u64 waited;
	struct waker waker;
	/* Spans too deep for the stack that it is in. */
	u64 too_deep;

	u64 scratch;

	/* The system call that it is in, or -1. */
	s64 call;
	u64 call_since;
	u64 call_first; /* argument */
	u64 call_pointer; /* what it is about, if that is still to be read */
	u32 call_about;
	u32 call_length;
	char call_path[PATH_BYTES];

	struct frame stack[DEPTH];
};

/* Goes with the thread, so that none is left behind and none is taken for another's. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

struct kept_account {
	struct account account;
	u32 pid;
	u32 unused;
	u64 image; /* as in struct whose */
};

/* Of spans that were left and are not closed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, u64);
	__type(value, struct kept_account);
} accounts SEC(".maps");

/* Of the same spans. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, u64);
	__type(value, struct record_small);
} smalls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 << 20);
} records SEC(".maps");

u64 losses[LOSSES];

/* Spans that were entered before this time are not followed any more: nobody may have seen the thread leave them. */
u64 entered_from SEC(".data") = 0;

/* Whether anything but the spans themselves is seen. */
const volatile bool sees_kernel = true;

/* Whether the scheduler is. */
const volatile bool sees_sched = true;

/* For tests: of threads that get the CPU, every other is not seen to. */
const volatile bool misses_returns = false;

/* Kernel spans shorter than this are only added up. */
const volatile u64 min_ns = 0;

static __always_inline void lose(enum lost why)
{
	__sync_fetch_and_add(&losses[why], 1);
}

/* User space comes by itself, soon enough. */
static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
