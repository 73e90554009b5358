/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* Maps and variables that the programs share, and the counts of losses. */
#pragma once

#define MAX_DEPTH 64 /* as in the layer */

struct thread {
	/* Where it says which spans it is in, and the number by which it is the owner of that memory. */
	u64 block;
	u64 owner;
	u64 build; /* by which it registered */
	u32 is_foreign; /* it has no layer, but OpenTelemetry's thread context, see foreign.h */
	u32 is_outside; /* when it was last looked at, it was in no span, nor about to leave one */

	/* The spans that it was in when it was last looked at, `depth` of them, the outermost first. */
	u64 ids[MAX_DEPTH];
	u32 depth;
	u32 too_deep; /* spans beyond */
	struct ids innermost;
	u64 innermost_since; /* when the thread entered it */
	u64 innermost_began; /* when it was created */
	u64 innermost_name; /* the address of its name, or 0 */
	u64 reported_name; /* the last one that was reported */

	/* Since when it is in its present state. */
	u64 since;
	/* An enum thread_state. */
	u32 state;
	/* The time in an unknown state goes on: its memory could not be read when it was last looked at. */
	u32 is_unreadable;
	/* Time in an unknown state that is not reported yet. */
	u64 unseen_from;
	u64 unseen_to;
	/* Its last wake-up since it got a CPU, even while still on that CPU; 0: none was seen. */
	u64 woken;
	/* When it got a CPU, as long as the time of its wake-up is unknown; else 0. */
	u64 got_cpu;
	/* The kernel's counts: how often it was given a CPU, including the last time; and its total wait for a CPU when it
	 * last left one. */
	u64 runs;
	u64 waited;
	struct waker waker;

	u64 scratch;

	/* The system call that it is in, or -1. */
	s64 call;
	u64 call_since;
	u64 call_first_argument;
	u64 call_pointer; /* to a path or address that is not read yet; else 0 */
	u32 call_path_kind;
	u32 call_length;
	char call_path[PATH_BYTES];
};

/* Stored with the task, so that it is freed with it and is never taken for that of another thread. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

/* The short kernel spans of a span. By span id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, u64);
	__type(value, struct record_summary);
} summaries SEC(".maps");

/* The names that were reported lately. */
struct name_key {
	u64 image;
	u64 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct name_key);
	__type(value, u8);
} names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 << 20);
} records SEC(".maps");

u64 losses[LOSSES];

/* The builds that are not followed any more, a bit for each. Their threads are ignored. */
#define RELEASED_WORDS 64
u64 released[RELEASED_WORDS] SEC(".data") = {};

/* All threads are ignored. */
bool stops_following SEC(".data") = false;

/* The process that has OpenTelemetry's thread context, and no layer; 0: none. */
const volatile u32 foreign_pid = 0;

/* How far from the thread pointer its variable is; or, if there is a module, from that module's variables. */
const volatile s64 foreign_distance = 0;
const volatile u64 foreign_module = 0;

/* What that process runs, once it was seen. */
u64 foreign_image SEC(".data") = 0;

/* Whether one of its records had W3C's flags. */
bool foreign_has_flags SEC(".data") = false;

/* Whether the kernel reports switches between threads. */
const volatile bool sees_switches = true;

/* For tests: ignores every other switch to a thread, or from it. */
const volatile bool misses_returns = false;
const volatile bool misses_leaves = false;

/* Shorter kernel spans are aggregated per span. */
const volatile u64 min_ns = 0;

static __always_inline void count_losses(enum loss loss, u64 count)
{
	__sync_fetch_and_add(&losses[loss], count);
}

static __always_inline void count_loss(enum loss loss)
{
	count_losses(loss, 1);
}

/* Without a wake-up: user space polls often enough. */
static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
