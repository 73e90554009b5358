//! Checks what the running kernel supports, and chooses the programs to load.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libbpf_rs::OpenObject;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Typedef;

use crate::source::kernel::Kernel;

/// The types of the running kernel.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The program that learns where threads say which spans they are in.
const REGISTER: &str = "thread_register";

/// The tracepoints for each kind of kernel activity.
fn tracepoints(kernel: Kernel) -> &'static [&'static str] {
    match kernel {
        Kernel::None => &[],
        Kernel::Sched => &["sched_switch", "sched_waking"],
        Kernel::Block => &["block_io_start", "block_rq_merge", "block_rq_complete"],
        Kernel::Net => &[
            "inet_sock_set_state",
            "sock_send_length",
            "sock_recv_length",
            "tcp_retransmit_skb",
            "tcp_receive_reset",
        ],
        Kernel::Exec => &["sched_process_fork", "sched_process_exec", "sched_process_exit"],
        Kernel::Syscall => &["sys_enter", "sys_exit"],
    }
}

/// The inode of the initial pid namespace: PROC_PID_INIT_INO of linux/proc_ns.h.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Checks that programs can be attached on this kernel and from this namespace.
///
/// # Errors
///
/// The kernel lacks BTF, or this is not the initial pid namespace.
pub fn check_kernel() -> Result<()> {
    // The kernel reports pids of the initial namespace; /proc has those of ours.
    if fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != FIRST_PID_NAMESPACE) {
        bail!(
            "this pid namespace, such as a container's, has other pids than the kernel reports; run spantap on the \
             host, or with the host's pids (docker run --pid=host, hostPID in Kubernetes)"
        );
    }
    if !Path::new(BTF).exists() {
        bail!(
            "this kernel has no {BTF}, which is needed to adapt programs to it; use a kernel built with \
             CONFIG_DEBUG_INFO_BTF, such as that of any large distribution"
        );
    }
    Ok(())
}

/// Deselects the programs that are not wanted or that this kernel does not support. Returns a line for each of the
/// latter.
pub(super) fn choose(object: &mut OpenObject, kernel: &[Kernel], has_probes: bool) -> Result<Vec<String>> {
    let mut lacking = Vec::new();
    let btf = Btf::from_vmlinux().with_context(|| format!("can't read {BTF}"))?;
    let is_there = |name: &str| btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}")).is_some();
    for mut program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let of = Kernel::ALL.into_iter().find(|of| tracepoints(*of).contains(&&*name));
        let is_wanted = match of {
            Some(of) => kernel.contains(&of),
            None if !has_probes => false,
            // Spans alone don't need it.
            None => name != REGISTER || !kernel.is_empty(),
        };
        // An exec ends the thread's spans, whatever else is recorded.
        let is_wanted = is_wanted || (name == "sched_process_exec" && !kernel.is_empty());
        let is_there = of.is_none() || is_there(&name);
        if let (Some(of), true, false) = (of, is_wanted, is_there) {
            lacking.push(format!("this kernel lacks the tracepoint {name}: the {of} activity is incomplete"));
        }
        program.set_autoload(is_wanted && is_there);
    }
    Ok(lacking)
}
