/* The spans of a process from its probes, and what the kernel did in them.
 *
 * `probes.h` keeps the stack of the spans that a thread is in, `thread.h` its time and `account.h` theirs, and the others
 * look at that stack when the kernel does something: `sched.h`, `block.h`, `net.h`, `exec.h` and
 * `syscall.h`, each of which user space may leave out. */
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
#include "thread.h"
#include "account.h"
#include "probes.h"
#include "sched.h"
#include "block.h"
#include "net.h"
#include "exec.h"
#include "syscall.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
