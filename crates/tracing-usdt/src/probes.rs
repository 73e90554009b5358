//! The USDT contract: provider `tracing`, eight probes, each in exactly one place of the binary.
//!
//! Every probe is one function, which `usdt!` makes. The functions are neither generic nor inlined.
//! A second copy of a probe's instruction would be a second location to every consumer, and old
//! bpftrace and bcc see only one of the two (bpftrace issue 3601).
//!
//! An argument keeps its position for ever; a new one goes to the end.

#[cfg_attr(
    not(all(
        any(target_os = "linux", target_os = "android"),
        any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
        target_endian = "little",
        target_pointer_width = "64",
        not(miri),
    )),
    path = "probes/note_none.rs"
)]
mod note;

use std::ffi::CStr;

use crate::context::Ids;
use note::usdt;
pub(crate) use note::{any_attached, attached};

/// The probes, in the order of their semaphores.
#[derive(Clone, Copy)]
pub(crate) enum Probe {
    NewSpan,
    Enter,
    Exit,
    Close,
    Record,
    FollowsFrom,
    Event,
    SpanEmit,
}

pub(crate) struct NewSpan<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    pub(crate) target: &'a CStr,
    pub(crate) level: u8,
    /// 0 for a root.
    pub(crate) parent_id: u64,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// A span came to be.
    new_span[NewSpan](a: NewSpan<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.target.as_ptr(),
    a.level,
    a.parent_id,
    a.fields.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

/// What `enter` and `exit` carry.
pub(crate) struct Step<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
}

usdt! {
    /// The thread goes into the span.
    enter[Enter](a: Step<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

usdt! {
    /// The thread leaves the span.
    exit[Exit](a: Step<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

pub(crate) struct Close<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    /// 0 where it is unknown: the span began before anyone listened.
    pub(crate) duration_ns: u64,
    pub(crate) busy_ns: u64,
    /// 0 for a root.
    pub(crate) parent_id: u64,
}

usdt! {
    /// Nobody holds the span any more.
    close[Close](a: Close<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.duration_ns,
    a.busy_ns,
    a.span.trace_id.high(),
    a.span.trace_id.low(),
    a.parent_id
}

pub(crate) struct Record<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// The span was given more fields.
    record[Record](a: Record<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.fields.as_ptr()
}

pub(crate) struct FollowsFrom<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    pub(crate) follows: u64,
}

usdt! {
    /// The span follows from another.
    follows_from[FollowsFrom](a: FollowsFrom<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.follows
}

pub(crate) struct Event<'a> {
    /// 0 outside of any span.
    pub(crate) span_id: u64,
    pub(crate) message: &'a CStr,
    pub(crate) target: &'a CStr,
    pub(crate) level: u8,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// Something happened, in the current span or in none.
    event[Event](a: Event<'_>) =>
    a.span_id,
    a.message.as_ptr(),
    a.target.as_ptr(),
    a.level,
    a.fields.as_ptr()
}

pub(crate) struct SpanEmit<'a> {
    pub(crate) span_id: u64,
    /// What a datagram with just this span would hold.
    pub(crate) json: &'a CStr,
}

usdt! {
    /// The span ended; this is all of it.
    span_emit[SpanEmit](a: SpanEmit<'_>) =>
    a.span_id,
    a.json.as_ptr(),
    a.json.count_bytes()
}
