//! A process of any language that has no layer, but says which spans its threads are in by OpenTelemetry's way.
//!
//! `context` is what the process tells about itself (OTEP 4719), and `variable` finds the variable in which its threads have
//! their spans (OTEP 4947). `memory` reads both from the process.

mod context;
mod memory;
mod variable;

use anyhow::{Result, bail};

use memory::Memory;
pub(super) use variable::Place;

/// Such a process.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) pid: i32,
    /// Its resource, in protobuf.
    pub(super) resource: Vec<u8>,
    pub(super) place: Place,
}

impl Foreign {
    /// The process, if it tells about itself.
    ///
    /// # Errors
    ///
    /// It does, but its spans can't be found.
    pub(super) fn of(pid: i32) -> Result<Option<Self>> {
        let memory = Memory::open(pid)?;
        let Some(context) = context::read(&memory)? else { return Ok(None) };
        match &*context.schema {
            "tlsdesc_v1_dev" | "tlsdesc_v1" | "tls_v1_dev" | "tls_v1" => {}
            "" => bail!("process {pid} has OpenTelemetry's process context, but no context of its threads"),
            other => bail!(
                "process {pid} has the context of its threads in the form {other:?}, which spantap can't read"
            ),
        }
        match variable::find(&memory)? {
            Some(place) => Ok(Some(Self { pid, resource: context.resource, place })),
            None => bail!(
                "process {pid} has OpenTelemetry's process context, but does not export {}; link it with \
                 -Wl,--export-dynamic-symbol={}",
                variable::NAME,
                variable::NAME
            ),
        }
    }
}
