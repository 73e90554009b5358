// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/* Reads the spans of a process from its probes, and records what the kernel did in them. Or only the latter, for a process
 * without the layer: `foreign.h`.
 *
 * `probes.h` learns where each thread says which spans it is in, and `stack.h` reads that. `thread.h` follows the thread's
 * time, and `wait.h` finds what a thread that goes to sleep waits for. Five files charge the spans when the kernel does
 * something: `sched.h`, `block.h`, `net.h`, `exec.h` and `syscall.h`. User space may leave out any of those. All files use
 * `kernel.h`, the types of the kernel; `calls.h`, the system calls; `records.h`, what user space reads; `maps.h`, what the
 * programs share; and `report.h`, which writes records of kernel spans. */
#include "kernel.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include "records.h"
#include "maps.h"
#include "report.h"
#include "stack.h"
#include "calls.h"
#include "wait.h"
#include "thread.h"
#include "probes.h"
#include "sched.h"
#include "block.h"
#include "net.h"
#include "exec.h"
#include "syscall.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
