//! A process of any language that has no layer, but says which spans its threads are in by OpenTelemetry's way.
//!
//! `context` is what the process tells about itself (OTEP 4719), and `variable` finds the variable in which its threads have
//! their spans (OTEP 4947). `memory` reads both from the process.

mod context;
mod memory;
mod variable;

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail};

use crate::process::Sender;
use memory::Memory;
pub(super) use variable::Variable;

/// The first Linux that can allocate the entry of a thread during a context switch.
const NEEDED_LINUX: (u32, u32) = (6, 4);

/// Such a process.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Foreign {
    pub(super) sender: Sender,
    /// Its resource, in protobuf.
    pub(super) resource: Vec<u8>,
    pub(super) variable: Variable,
    /// The address at which it tells about itself.
    address: u64,
}

impl Foreign {
    /// The process, if it tells about itself.
    ///
    /// # Errors
    ///
    /// It does, but its spans can't be found.
    pub(super) fn of(pid: i32) -> Result<Option<Self>> {
        let memory = Memory::open(pid)?;
        let Some(address) = context::address(&memory)? else { return Ok(None) };
        let context = context::read(&memory, address)?;
        match &*context.schema {
            "tlsdesc_v1_dev" | "tls_v1" => {}
            "" => bail!(
                "process {pid} has OpenTelemetry's process context, but no context of its threads; attach again when it has"
            ),
            other => bail!(
                "process {pid} has the context of its threads in the form {other:?}, which spantap can't read"
            ),
        }
        if linux().is_some_and(|linux| linux < NEEDED_LINUX) {
            bail!(
                "process {pid} has no probes of tracing-usdt; other programs can be attached to from Linux 6.4 on"
            );
        }
        let Some(variable) = variable::find(&memory)? else {
            bail!(
                "process {pid} has OpenTelemetry's process context, but does not export {0}; link it with \
                 -Wl,--export-dynamic-symbol={0}",
                variable::NAME,
            )
        };
        let owner =
            fs::metadata(format!("/proc/{pid}")).with_context(|| format!("process {pid} has ended"))?;
        let sender = Sender { pid: pid.unsigned_abs(), uid: owner.uid(), gid: owner.gid() };
        Ok(Some(Self { sender, resource: context.resource, variable, address }))
    }

    /// Whether the process still runs the same program: another one tells about itself at another address, or not at all.
    pub(super) fn is_there(&self) -> bool {
        let memory = i32::try_from(self.sender.pid).ok().and_then(|pid| Memory::open(pid).ok());
        let address = memory.and_then(|memory| context::address(&memory).ok().flatten());
        address == Some(self.address)
    }
}

/// The version of the running kernel.
fn linux() -> Option<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
