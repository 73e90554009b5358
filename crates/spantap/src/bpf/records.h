/* What user space is told, in a ring buffer, and how it is laid out there: `record.rs` reads the same.
 *
 * All members lie where both sides expect them without padding. */
#pragma once

/* Each begins with its kind. */
enum record_kind {
	RECORD_SPAN = 1,    /* a span that ended, with its JSON */
	RECORD_PARTIAL = 2, /* one that began before we looked, with its name */
	RECORD_KERNEL = 3,  /* something that the kernel did in a span */
	RECORD_SMALL = 4,   /* the same, for all that took less than is told one by one */
};

/* Of a thread: all of its time is one of these. */
enum part {
	ON_CPU,
	RUN_QUEUE, /* woken, and waiting for a CPU */
	PREEMPTED, /* could have run, and the CPU was another's */
	THROTTLED, /* its CPU quota was used up */
	SLEEPING,
	DISK,    /* and other I/O that the kernel counts as such */
	BLOCKED, /* in another sleep that signals don't end: a lock of the kernel's, the exec of a child */
	STOPPED,
	UNSEEN, /* it may have been off the CPU: the kernel has not told us of all of its changes of threads */
	PARTS,
};
_Static_assert(UNSEEN == PARTS - 1, "of which there are no kernel spans");

/* What a kernel span is of. The first are the parts of the time, but for the last of them. */
enum what {
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

/* Which span. */
struct who {
	u64 span_id;
	u64 trace_high;
	u64 trace_low;
};

/* Of the process and thread in which the span was. */
struct whose {
	u32 pid;
	u32 tid;
	char comm[16];
	u64 image; /* tells the process from others of its pid, and from itself before an exec; later ones are greater */
};

/* How a span spent the time in which it was entered. */
struct account {
	u64 part[PARTS];
	/* When it was first seen entered, and how often it was left. */
	u64 since;
	u64 exits;
};

#define NAME_BYTES 128

struct record_span {
	u32 kind;
	u32 length; /* of what follows the struct, without NUL */
	u32 uid;
	u32 gid;
	struct who who;
	struct whose whose;
	u64 now;
	struct account account;
	/* For RECORD_PARTIAL alone. An older layer does not tell it. */
	u64 parent_id;
	u64 knows_parent;
	char text[];
};

struct waker {
	u32 pid;
	u32 tid;
	char comm[16];
	u32 in_interrupt;
	u32 unused;
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
#define PATH_OF_DESCRIPTOR 2 /* if the first argument is one */
#define ADDRESS_OF_ARGUMENT 3 /* a sockaddr */

struct call {
	s64 result;
	u64 first; /* argument */
	u32 about;
	u32 unused;
	char path[PATH_BYTES];
};

/* What the kernel did in a span. */
struct kernel_span {
	u32 what;
	u32 number; /* a system call's, or another block operation's; else 0 */
	struct who who;
	struct whose whose;
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

/* Small ones of a kind. */
struct slot {
	u32 what; /* 0: none */
	u32 number;
	u64 count;
	u64 total;
	u64 longest;
	u64 first;
	u64 last;
};

#define SLOTS 24

struct record_small {
	u32 kind;
	u32 unused;
	struct who who;
	struct whose whose;
	struct slot slots[SLOTS];
};

/* What was lost, and why. */
enum lost {
	LOST_RING_FULL_SPANS,
	LOST_RING_FULL_KERNEL,
	LOST_TOO_LONG,
	LOST_UNREADABLE,
	LOST_NO_THREAD,
	LOST_TOO_DEEP,
	LOST_NO_ACCOUNT,
	LOST_NO_SMALL,
	LOST_NO_REQUEST,
	LOST_NO_SOCKET,
	LOST_NO_CHILD,
	LOST_STRETCHES,
	LOST_RETRANSMITS,
	LOST_REQUEST_ENDS,
	LOSSES,
};
