/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/* The records that user space reads from a ring buffer, and their layout: `record.rs` reads the same.
 *
 * All members lie where both sides expect them, without padding. */
#pragma once

/* The first word of each record. */
enum record_kind {
	RECORD_BATCH = 1,   /* spans that ended, in protobuf */
	RECORD_TIME = 2,    /* how long a thread was off the CPU, and in which spans */
	RECORD_KERNEL = 3,  /* one kernel span */
	RECORD_SUMMARY = 4, /* all kernel spans of a span that were too short for a record of their own */
	RECORD_SUMMARIZED = 5, /* the first of them has come */
	RECORD_UNSEEN = 6, /* what a thread did for a while is not known */
	RECORD_GAP = 7, /* a thread was in spans before it was followed */
	RECORD_NAME = 8, /* the name of spans, before the first record that has its address */
};

/* At each moment a thread is in one of these states. */
enum thread_state {
	ON_CPU, /* user space computes it from the time in which the span was entered */
	RUN_QUEUE, /* woken, waiting for a CPU */
	PREEMPTED, /* able to run, but another thread has the CPU */
	THROTTLED, /* its CPU quota was used up */
	SLEEPING, /* for anything but the two below */
	NETWORK, /* asleep until a socket is ready */
	LOCK, /* asleep in futex(): until another thread wakes it, or its time is up */
	DISK,    /* waiting for a disk, or other I/O that the kernel counts as such */
	BLOCKED, /* another sleep that signals don't end, such as on a lock of the kernel */
	STOPPED,
	UNSEEN, /* unknown: the kernel did not report all of the thread's switches, or its memory could not be read */
	STATES,
};
_Static_assert(UNSEEN == STATES - 1, "the states before UNSEEN have kernel spans");

/* The kind of a kernel span: a thread state (RUN_QUEUE to STOPPED), or one of these. */
enum kernel_kind {
	BLOCK_READ = UNSEEN,
	BLOCK_WRITE,
	BLOCK_OTHER,
	TCP_CONNECT,
	TCP_ACCEPT,
	TCP_RETRANSMIT,
	TCP_CLOSE,
	TCP_RESET,
	EXEC,
	SYSCALL,
};

/* The ids of a span. */
struct ids {
	u64 span_id;
	u64 trace_high;
	u64 trace_low;
};

/* The process and thread of a span. */
struct owner {
	u32 pid;
	u32 tid;
	char comm[16];
	u64 image; /* what the process runs: differs after an exec and for a reused pid; later ones are greater */
};

struct record_batch {
	u32 kind;
	u32 length; /* of `bytes` */
	u32 uid;
	u32 gid;
	struct owner owner;
	u64 now;
	u64 lost; /* how many records of times are lost by now, of any process */
	char bytes[];
};

struct record_time {
	u32 kind;
	u32 depth;
	u32 pid;
	u32 state; /* an enum thread_state */
	u64 image; /* as in struct owner */
	u64 time;  /* in that state */
	u64 queued; /* in RUN_QUEUE after that */
	u64 name; /* of the innermost span, an address in the process; or 0 */
	/* Of the span in which another thread ended it; 0: none, or it is not known. */
	u64 waker_image;
	u64 waker_name;
	u32 waker_pid;
	u32 unused;
	u64 ids[]; /* of the spans, the outermost first */
};

/* The part of a thread's memory that is for readers. */
#define CONTEXT_BYTES 5008
/* What `thread_register` says if it is laid out like this. */
#define LAYOUT 1

/* The number of exits if their part of the memory could not be read: more than are listed. */
#define UNKNOWN_EXITS ((u64)-1)

/* Also RECORD_GAP. What a thread did between two times is not known. Its memory shows which spans it was in; of the
 * records, only those of the listed spans were copied. */
struct record_unseen {
	u32 kind;
	u32 pid;
	u64 image;
	u64 from;
	u64 to;
	char context[CONTEXT_BYTES];
};

#define NAME_BYTES 64

struct record_name {
	u32 kind;
	u32 pid;
	u64 image;
	u64 address;
	char name[NAME_BYTES]; /* ends with a NUL, and is cut if it is longer */
};

struct record_summarized {
	u32 kind;
	u32 pid;
	u64 image;
	u64 span_id;
};

struct waker {
	u32 pid;
	u32 tid;
	char comm[16];
	u32 in_interrupt;
	u32 unused;
	struct ids span; /* that the waker was in; 0: none, or it is not followed */
	u64 image; /* of the waker's process, if it was in a span */
	u64 name; /* of that span, an address in that process; or 0 */
};

struct block {
	u32 device;
	s32 error;
	u64 bytes;
	char disk[32];
};

struct connection {
	u32 family;
	s32 error;
	u32 local[4];
	u32 peer[4];
	u16 local_port;
	u16 peer_port;
	u32 srtt_us;
	u64 sent;
	u64 received;
	u64 lifetime;
	u32 retransmits;
	u32 unused;
};

#define PATH_BYTES 96

struct exec {
	u32 pid;
	s32 status;
	char path[PATH_BYTES];
};

#define PATH_OF_ARGUMENT 1
#define PATH_OF_DESCRIPTOR 2 /* valid only if the first argument is a descriptor */
#define ADDRESS_OF_ARGUMENT 3 /* a sockaddr */

struct call {
	s64 result;
	u64 first_argument;
	u32 path_kind;
	u32 unused;
	char path[PATH_BYTES];
};

/* Something that the kernel did in a span. */
struct kernel_span {
	u32 kind;
	u32 number; /* of the system call, or the operation of BLOCK_OTHER; else 0 */
	struct ids ids;
	struct owner owner;
	u64 start;
	u64 end;
};

struct record_kernel {
	u32 kind;
	u32 unused;
	struct kernel_span span;
	union {
		struct waker waker;
		struct block block;
		struct connection connection;
		struct exec exec;
		struct call call;
	};
};

/* Short kernel spans of one kind and number. */
struct slot {
	u32 kind; /* 0: unused slot */
	u32 number;
	u64 count;
	u64 total;
	u64 longest;
	u64 first;
	u64 last;
};

#define SLOTS 24

struct record_summary {
	u32 kind;
	u32 unused;
	struct ids ids;
	struct owner owner;
	struct slot slots[SLOTS];
};

/* Why something was lost. */
enum loss {
	LOST_RING_FULL_SPANS,
	LOST_RING_FULL_KERNEL,
	LOST_TOO_LONG,
	LOST_UNREADABLE,
	LOST_NO_THREAD,
	LOST_TOO_DEEP,
	LOST_UNREADABLE_STACK,
	LOST_RING_FULL_TIMES,
	LOST_NO_SUMMARY,
	LOST_NO_REQUEST,
	LOST_NO_SOCKET,
	LOST_NO_CHILD,
	LOST_STRETCHES,
	LOST_RETRANSMITS,
	LOST_REQUEST_ENDS,
	LOST_OTHER_LAYOUT,
	LOSSES,
};
