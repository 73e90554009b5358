//! The USDT contract: provider `tracing`, eight probes, each in exactly one place of the binary.
//!
//! Every probe is one function, which `usdt!` makes. The functions are neither generic nor inlined.
//! A second copy of a probe's instruction would be a second location with a second semaphore to
//! every consumer, and old bpftrace and bcc see only one of the two (bpftrace issue 3601).
//!
//! An argument keeps its position for ever; a new one goes to the end.

use std::ffi::CStr;

use probe::probe_lazy;

use crate::context::SpanContext;

/// Gives the semaphores a page of their own.
///
/// `.probes` otherwise follows the read-only-after-relocation segment directly. With rust-lld both
/// can share a page, and for a process that starts after the attach the kernel then increments the
/// semaphores in the mapping that is about to be replaced: they stay 0 and the probes stay silent.
/// A page-aligned object in the same section moves the section, hence all eight, to a page start.
/// Pages are up to 64 KiB outside of x86.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[cfg_attr(target_arch = "x86_64", repr(C, align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C, align(65536)))]
struct OwnPage([std::sync::atomic::AtomicU8; 0]); // an atomic, for a writable section like the semaphores'

// SAFETY: nothing but the semaphores, of the same alignment class and flags, is in the section.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(unsafe_code)]
#[used]
#[unsafe(link_section = ".probes")]
static OWN_PAGE: OwnPage = OwnPage([]);

/// Makes the function of a probe. Called with `None` it only says whether a consumer is attached;
/// called with the probe's values while one is, it fires. Both through the same `probe_lazy!`,
/// because the semaphore belongs to that one place: `return` in the first argument leaves before
/// the probe's instruction is reached.
macro_rules! usdt {
    ($(#[$doc:meta])* $name:ident($a:ident: $args:ty) => $first:expr $(, $rest:expr)*) => {
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name(args: Option<&$args>) -> bool {
            let $a;
            probe_lazy!(
                tracing,
                $name,
                match args {
                    Some(args) => {
                        $a = args;
                        $first
                    }
                    None => return true,
                }
                $(, $rest)*
            )
        }
    };
}

/// Whether any of the eight has a consumer.
pub(crate) fn any_attached() -> bool {
    new_span(None)
        || enter(None)
        || exit(None)
        || close(None)
        || record(None)
        || follows_from(None)
        || event(None)
        || span_emit(None)
}

pub(crate) struct NewSpan<'a> {
    pub(crate) span: SpanContext,
    pub(crate) name: &'a CStr,
    pub(crate) target: &'a CStr,
    pub(crate) level: u8,
    /// 0 for a root.
    pub(crate) parent_id: u64,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// A span came to be.
    new_span(a: NewSpan<'_>) =>
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
    pub(crate) span: SpanContext,
    pub(crate) name: &'a CStr,
}

usdt! {
    /// The thread goes into the span.
    enter(a: Step<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

usdt! {
    /// The thread leaves the span.
    exit(a: Step<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

pub(crate) struct Close<'a> {
    pub(crate) span: SpanContext,
    pub(crate) name: &'a CStr,
    /// 0 where it is unknown: the span began before anyone listened.
    pub(crate) duration_ns: u64,
    pub(crate) busy_ns: u64,
}

usdt! {
    /// Nobody holds the span any more.
    close(a: Close<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.duration_ns,
    a.busy_ns,
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

pub(crate) struct Record<'a> {
    pub(crate) span: SpanContext,
    pub(crate) name: &'a CStr,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// The span was given more fields.
    record(a: Record<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.fields.as_ptr()
}

pub(crate) struct FollowsFrom<'a> {
    pub(crate) span: SpanContext,
    pub(crate) name: &'a CStr,
    pub(crate) follows: u64,
}

usdt! {
    /// The span follows from another.
    follows_from(a: FollowsFrom<'_>) =>
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
    event(a: Event<'_>) =>
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
    span_emit(a: SpanEmit<'_>) =>
    a.span_id,
    a.json.as_ptr(),
    a.json.count_bytes()
}
