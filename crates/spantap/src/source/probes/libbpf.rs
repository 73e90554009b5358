//! The messages of libbpf, and errors made from them.

use std::io::{Write, stderr};
use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;
use libbpf_rs::PrintLevel;
use nix::unistd::geteuid;

/// The messages of libbpf since the last error.
static MESSAGES: Mutex<String> = Mutex::new(String::new());

pub(super) fn store_message(_: PrintLevel, text: String) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    // The verifier's log comes first and may be long; the cause is at its end.
    if messages.len() > 1 << 20 {
        messages.clear();
    }
    messages.push_str(&text);
}

/// An environment variable. If it is set, an error writes all messages, with the verifier's log, to stderr.
const SHOW_ALL: &str = "SPANTAP_LIBBPF_LOG";

/// Explains an error of libbpf, and what to do.
pub(super) fn explain(error: &libbpf_rs::Error) -> anyhow::Error {
    let messages = std::mem::take(&mut *MESSAGES.lock().unwrap_or_else(PoisonError::into_inner));
    if std::env::var_os(SHOW_ALL).is_some() {
        let _ = stderr().write_all(messages.as_bytes());
    }
    // The verifier returns the same error when it rejects a program.
    let is_denied = error.kind() == libbpf_rs::ErrorKind::PermissionDenied;
    if is_denied && (!geteuid().is_root() || !messages.contains("libbpf: prog ")) {
        return anyhow!(
            "the kernel doesn't let us attach programs; that takes root (sudo spantap attach ...), or the \
             capabilities CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, outside of a container that forbids it"
        );
    }
    // The first message about a program names the program.
    let line = messages.lines().find(|line| line.starts_with("libbpf: prog "));
    let line = line.or(messages.lines().rev().find(|line| line.starts_with("libbpf: ")));
    let line = line.and_then(|line| line.strip_prefix("libbpf: ")).unwrap_or("it gives no reason");
    anyhow!("the kernel refused it: {error}: {line} ({SHOW_ALL}=1 shows all messages of libbpf)")
}
