//! What a process tells about itself: OpenTelemetry's process context, OTEP 4719.

use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;

use super::memory::Memory;
use crate::process::maps::Mapping;
use crate::span::attributes::find_text;

/// The beginnings of the names that its mapping may have.
const NAMES: [&str; 3] = ["/memfd:OTEL_CTX", "[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]"];

const SIGNATURE: &[u8] = b"OTEL_CTX";
const VERSION: u32 = 2;

/// Signature, version, size, time of the publication, and address of the context.
const HEADER_BYTES: usize = 32;
const TIME_AT: u64 = 16;

/// The most bytes of a context. Most take a few hundred.
const MAX_BYTES: usize = 64 << 10;

/// How often a context that is just changing is read.
const ATTEMPTS: u32 = 100;

/// What is of use here.
pub(super) struct ProcessContext {
    /// OpenTelemetry's `Resource` in protobuf.
    pub(super) resource: Vec<u8>,
    /// The form in which threads have their context; empty if they have none.
    pub(super) schema: String,
}

/// `ProcessContext` of OpenTelemetry. The resource stays encoded.
#[derive(Message)]
struct Encoded {
    #[prost(bytes = "vec", tag = "1")]
    resource: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<KeyValue>,
}

/// Where the process has it, if it does.
pub(super) fn address(memory: &Memory) -> Result<Option<u64>> {
    let mappings = memory.mappings().context("can't read the mappings of the process")?;
    let is_it = |mapping: &&Mapping| {
        let mapped = mapping.name.as_os_str().as_bytes();
        NAMES.iter().any(|name| mapped.starts_with(name.as_bytes()))
    };
    Ok(mappings.iter().find(is_it).map(|mapping| mapping.start))
}

pub(super) fn read(memory: &Memory, address: u64) -> Result<ProcessContext> {
    let bytes = encoded(memory, address).context("can't read OpenTelemetry's process context")?;
    let Encoded { resource, attributes } =
        Encoded::decode(&*bytes).context("OpenTelemetry's process context is not as described")?;
    let schema = find_text(&attributes, "threadlocal.schema_version").unwrap_or_default().to_owned();
    Ok(ProcessContext { resource, schema })
}

fn encoded(memory: &Memory, header: u64) -> std::io::Result<Vec<u8>> {
    let invalid = |why| Error::new(ErrorKind::InvalidData, why);
    for _ in 0..ATTEMPTS {
        let bytes = memory.bytes(header, HEADER_BYTES)?;
        let (signature, rest) = bytes.split_at(SIGNATURE.len());
        let [version, size] = [0, 4].map(|at| rest[at..at + 4].try_into().map_or(0, u32::from_ne_bytes));
        let [time, address] = [8, 16].map(|at| rest[at..at + 8].try_into().map_or(0, u64::from_ne_bytes));
        if signature != SIGNATURE || version != VERSION {
            return Err(invalid("it has another version"));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_BYTES {
            return Err(invalid("it is too long"));
        }
        // 0 while it is being changed.
        if time != 0 {
            let bytes = memory.bytes(address, size)?;
            if memory.word(header + TIME_AT)? == time {
                return Ok(bytes);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(invalid("it changes all the time"))
}
