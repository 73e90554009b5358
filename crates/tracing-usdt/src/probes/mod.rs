//! The USDT probes: provider `tracing`, ten probes, each at exactly one place of the binary.
//!
//! The macro `usdt!` defines one function per probe. The functions are neither generic nor inlined, because a
//! second copy of a probe's instruction would be a second location of the probe, and old versions of bpftrace
//! and bcc attach to only one location (bpftrace issue 3601).
//!
//! The arguments are a contract with users: each keeps its position for ever, and new ones are added at the
//! end.
//!
//! `semaphores` has the counters of attached consumers.

mod semaphores;

use std::ffi::CStr;

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
))]
use probe::sdt;

use crate::propagation::Ids;
use semaphores::SEMAPHORES;
pub(crate) use semaphores::{any_attached, ask, attached, attached_to_one};

/// Does nothing on all other platforms: their executables have no such notes, their registers can't hold a
/// 64-bit id, or the probe has never been compiled for their processor.
#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
)))]
macro_rules! sdt {
    ([sym $symbol:literal $semaphores:ident], tracing, $name:ident, $($argument:expr,)+) => {
        let _ = (&$semaphores, $($argument),+);
    };
}

/// Defines the function of a probe. It contains one `nop`, of one byte on x86-64: Linux 6.18 turns a `nop` of
/// five bytes into a call, which overwrites the red zone of the stack. The function adds an ELF note with the addresses of the
/// `nop` and the semaphore and the locations of the arguments. The function does not check the semaphore:
/// callers use [`attached`].
///
/// `$semaphore` is an assembler expression. `{}` stands for the address of [`SEMAPHORES`], and the last digit
/// is the number of the probe, which the assertion checks.
macro_rules! usdt {
    ($(#[$doc:meta])* $name:ident[$probe:ident at $semaphore:literal]($a:ident: $args:ty) => $($argument:expr),+) => {
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name($a: &$args) {
            const { assert!($semaphore.as_bytes()[$semaphore.len() - 1] == b'0' + Probe::$probe as u8) };
            sdt!([sym $semaphore SEMAPHORES], tracing, $name, $($argument,)+);
        }
    };
}

/// The probes. The numbers are the positions of their semaphores, four to a word: those that a callback checks
/// together are side by side in one.
#[derive(Clone, Copy)]
pub(crate) enum Probe {
    NewSpan = 0,
    Enter = 1,
    Exit = 2,
    ThreadRegister = 3,
    Close = 4,
    BatchEmit = 5,
    SpanEmit = 6,
    FollowsFrom = 7,
    Event = 8,
    Record = 9,
}

/// The arguments of the probe `new_span`.
pub(crate) struct NewSpan<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    pub(crate) target: &'a CStr,
    pub(crate) level: u8,
    /// 0 for a root span.
    pub(crate) parent_id: u64,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// A span was created.
    new_span[NewSpan at "{} + 2 * 0"](a: NewSpan<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.target.as_ptr(),
    a.level,
    a.parent_id,
    a.fields.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

/// The arguments of the probes `enter` and `exit`.
pub(crate) struct Step<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
}

usdt! {
    /// The thread enters the span.
    enter[Enter at "{} + 2 * 1"](a: Step<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

usdt! {
    /// The thread leaves the span.
    exit[Exit at "{} + 2 * 2"](a: Step<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.span.trace_id.high(),
    a.span.trace_id.low()
}

/// The arguments of the probe `close`.
pub(crate) struct Close<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    /// 0 if unknown, because the span was created while nobody listened.
    pub(crate) duration_ns: u64,
    pub(crate) busy_ns: u64,
    /// 0 for a root span.
    pub(crate) parent_id: u64,
}

usdt! {
    /// The last handle of the span was dropped.
    close[Close at "{} + 2 * 4"](a: Close<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.duration_ns,
    a.busy_ns,
    a.span.trace_id.high(),
    a.span.trace_id.low(),
    a.parent_id
}

/// The arguments of the probe `record`.
pub(crate) struct Record<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// Fields of the span were recorded after its creation.
    record[Record at "{} + 2 * 9"](a: Record<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.fields.as_ptr()
}

/// The arguments of the probe `follows_from`.
pub(crate) struct FollowsFrom<'a> {
    pub(crate) span: Ids,
    pub(crate) name: &'a CStr,
    pub(crate) follows: u64,
}

usdt! {
    /// The span follows from another.
    follows_from[FollowsFrom at "{} + 2 * 7"](a: FollowsFrom<'_>) =>
    a.span.span_id.get(),
    a.name.as_ptr(),
    a.follows
}

/// The arguments of the probe `event`.
pub(crate) struct Event<'a> {
    /// The current span; 0 outside of any span.
    pub(crate) span_id: u64,
    pub(crate) message: &'a CStr,
    pub(crate) target: &'a CStr,
    pub(crate) level: u8,
    pub(crate) fields: &'a CStr,
}

usdt! {
    /// An event, in the current span or outside of any.
    event[Event at "{} + 2 * 8"](a: Event<'_>) =>
    a.span_id,
    a.message.as_ptr(),
    a.target.as_ptr(),
    a.level,
    a.fields.as_ptr()
}

/// The arguments of the probe `span_emit`.
pub(crate) struct SpanEmit<'a> {
    pub(crate) span_id: u64,
    /// The datagram that would hold only this span.
    pub(crate) json: &'a CStr,
}

usdt! {
    /// The span was closed. The argument is the whole span as JSON.
    span_emit[SpanEmit at "{} + 2 * 6"](a: SpanEmit<'_>) =>
    a.span_id,
    a.json.as_ptr(),
    a.json.count_bytes()
}

/// The arguments of the probe `batch_emit`.
pub(crate) struct BatchEmit<'a> {
    /// A datagram of OTLP in protobuf.
    pub(crate) batch: &'a [u8],
    /// How many spans it has; or, if it has only a report of losses, how many were lost.
    pub(crate) spans: u64,
}

usdt! {
    /// Many spans that were closed.
    batch_emit[BatchEmit at "{} + 2 * 5"](a: BatchEmit<'_>) =>
    a.batch.as_ptr(),
    a.batch.len(),
    a.spans
}

/// The arguments of the probe `thread_register`.
pub(crate) struct ThreadRegister {
    /// The thread's `thread_context::Block`.
    pub(crate) block: *const u8,
    /// How it is laid out.
    pub(crate) layout: u64,
}

usdt! {
    /// Where the calling thread says which spans it is in.
    thread_register[ThreadRegister at "{} + 2 * 3"](a: ThreadRegister) =>
    a.block,
    a.layout
}
