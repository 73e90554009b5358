//! A [`tracing_subscriber`] layer that makes every span of a program visible from outside: to
//! bpftrace, perf, gdb and eBPF programs as USDT probes, and to any program that reads a Unix
//! socket as JSON datagrams. Nobody looking, it does next to nothing; and whoever wants to look
//! need not restart the program.
//!
//! # From `Cargo.toml` to a histogram
//!
//! ```toml
//! [dependencies]
//! tracing = "0.1"
//! tracing-subscriber = "0.3"
//! tracing-usdt = { path = "../tracing-usdt/crates/tracing-usdt" } # a clone of the repository
//! ```
//!
//! ```
//! use std::{thread::sleep, time::Duration};
//! use tracing_subscriber::{fmt, prelude::*};
//!
//! fn main() {
//!     tracing_subscriber::registry().with(tracing_usdt::layer()).with(fmt::layer()).init();
//!
//! #   let (rounds, pause) = (3, 1);
//! #   #[cfg(any())] // what the reader sees
//!     let (rounds, pause) = (1000, 10);
//!     for n in 0..rounds {
//!         let _request = tracing::info_span!("request", n).entered();
//!         let _query = tracing::info_span!("query").entered();
//!         sleep(Duration::from_millis(pause));
//!     }
//! }
//! ```
//!
//! While it runs, in another terminal (`apt-get install bpftrace`):
//!
//! ```text
//! # bpftrace -e 'usdt:./target/debug/my-app:tracing:close { @us[str(arg1)] = hist(arg2 / 1000); }'
//! Attaching 1 probe...
//! ^C
//! @us[query]:
//! [8K, 16K)             87 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
//! ```
//!
//! Ready-made tools for latencies, polls, time off the CPU and system calls by span are in
//! `examples/bpftrace` of the repository. gdb lists the probes with `info probes stap tracing` and
//! stops at one with `break -probe-stap tracing:close`.
//!
//! # The probes
//!
//! The provider is `tracing`. An argument keeps its position for ever; new ones go to the end.
//! Strings end with a NUL, so `str(arg1)` just works. Ids are those of the datagrams (`%016llx`),
//! levels go from 1 ERROR to 5 TRACE, times are nanoseconds.
//!
//! | probe | arg0 | arg1 | arg2 | arg3 | arg4 | arg5 | arg6 | arg7 |
//! |---|---|---|---|---|---|---|---|---|
//! | `new_span` | span id | name | target | level | parent id (0: root) | fields, a JSON object | trace id high | trace id low |
//! | `enter` | span id | name | trace id high | trace id low | | | | |
//! | `exit` | span id | name | trace id high | trace id low | | | | |
//! | `close` | span id | name | duration (0: unknown) | busy | trace id high | trace id low | | |
//! | `record` | span id | name | fields added, a JSON object | | | | | |
//! | `follows_from` | span id | name | id of the span it follows | | | | | |
//! | `event` | current span id (0: none) | message | target | level | fields, a JSON object | | | |
//! | `span_emit` | span id | the span's JSON | its length in bytes | | | | | |
//!
//! * bpftrace before 0.24 refuses `arg6` and `arg7` on x86-64; `enter` and `close` have the trace
//!   id earlier. Its `str()` gives 63 bytes; longer text is read in pieces, `str(arg5 + 63)`, up to
//!   the NUL and not beyond.
//! * Each probe has its own semaphore: a consumer of `close` alone pays for no field.
//! * The **duration** runs from the creation of a span to its last exit, or to its close if it was
//!   never entered: a clone or a child keeps a span open long after its work is done. **Busy** is
//!   the part of it spent inside, whether or not the thread was on a CPU.
//! * The **name** is the callsite's. The datagram's is `otel.name` where that field is set.
//! * A span that began **before anyone listened** gets its id at its first probe. Its `enter`,
//!   `exit` and `close` fire, with a duration and busy time of 0, which is: unknown. It has no
//!   recorded fields, so `span_emit` leaves it out.
//!
//! # The datagrams
//!
//! With `TRACING_USDT_SOCKET=/run/my-app/trace.sock`, or [`Builder::socket`], every span that ends
//! is sent to that `SOCK_DGRAM` socket as a JSON array holding one [Zipkin v2 span], which can be
//! POSTed as it is to a Zipkin `/api/v2/spans`; with [`Format::Otlp`], as an OTLP/JSON request with
//! that span, for any OpenTelemetry collector's `/v1/traces`. The collector may start later, die and
//! come back.
//!
//! `otel.name`, `otel.kind`, `otel.status_code` and `otel.status_description` mean what they mean
//! to `tracing-opentelemetry`; an event of level ERROR, and one with an `error` field and no
//! message, fail the span they happen in. Error values keep their chain of sources. All other fields
//! are tags, beside `level`, `target`, `code.*`, `thread.*`, `busy_ns` and `idle_ns`; a field of
//! yours wins over a tag of ours with the same name. In Zipkin events are annotations, written
//! `"message": {fields}`, and the spans it follows are the tag `follows_from`; OTLP has events and
//! links, and types.
//!
//! A span's text is bounded, so that its datagram stays below 64 KiB (unless the resource attributes
//! are large): a value of more than 10 KiB is cut at a character boundary, long values yield to
//! short ones, and events are kept up to 20 KiB and 128, links up to 128. What was cut or left out is counted on the span, in
//! `tracing_usdt.shortened_values_count` and `otel.dropped_{attributes,events,links}_count` (in OTLP
//! its own fields).
//!
//! # Losses
//!
//! A span is sent before its close returns, without waiting: where the receiver's queue is full, or
//! nobody is there, the span is dropped and counted ([`Handle::stats`]). [`Builder::max_wait`]
//! trades that for a bounded wait. What was lost is also told in the stream, at most once a second
//! and at the end of the program (which waits up to 200 ms for room), by a span named `tracing_usdt.dropped` with one tag a reason.
//!
//! # Processes
//!
//! After `fork` the child draws ids of its own and keeps an account of its own; a span that was open
//! at the fork is its parent's to report. (A child made without `fork`'s handlers, by a raw `clone`,
//! goes unnoticed.) The socket is close-on-exec, so a program that is started has none of it.
//!
//! # Environment
//!
//! Read when the layer is built; what is set on the [`Builder`] wins.
//!
//! | variable | meaning |
//! |---|---|
//! | `TRACING_USDT_SOCKET` | path of the `SOCK_DGRAM` socket; unset: no datagrams |
//! | `TRACING_USDT_FORMAT` | `zipkin` (default) or `otlp` |
//! | `TRACING_USDT_DELIVERY` | `inline`, the default and so far the only one |
//! | `TRACING_USDT_MAX_WAIT_MS` | how long a closing span may wait for room in the receiver's queue; default 0 |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | as OpenTelemetry defines them; default service: the executable's name |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | as OpenTelemetry defines them; for datagrams, not for probes |
//! | `TRACEPARENT` | the W3C context that root spans of this process continue |
//!
//! A value that can't be used is reported once and the program runs on without it. Reports go to
//! stderr, or to [`Builder::on_error`].
//!
//! # Beside other layers
//!
//! `EnvFilter`, per-layer filters, `reload`, `Option` and `Vec` of layers work as with any other
//! layer, in any order; where `reload` puts another layer of ours in the place of one, it takes over
//! the spans that are open. Without a filter of its own this layer is interested in all spans, so in a
//! stack where only per-layer filters limit what is enabled it raises the global level to TRACE;
//! give it one too (`tracing_usdt::layer().with_filter(LevelFilter::INFO)`) where that costs more
//! than you want.
//!
//! # Platforms
//!
//! Linux on x86-64 and aarch64, glibc or static musl, is the full thing. On other Unix systems the
//! probes are inert, and the datagrams have been compiled but not run; elsewhere the layer compiles
//! and does nothing.
//!
//! # How it is built
//!
//! A callback of `tracing` arrives in `layer`, which asks `probes` whether anyone is attached. If
//! somebody listens, `identity` draws the span's ids (`context` has their types, `thread` the random
//! numbers) or inherits them, `sampler` decides whether its trace is sent, `fields` reads the values out of the
//! visitor, and `span` keeps them with the times of `clock` until the span closes. Then `encode`
//! writes the JSON, with `resource` for who sends it; `probes` fires `close` and `span_emit`, with
//! the NUL-terminated names of `callsite`; and `delivery` sends the datagram and keeps the account.
//! `builder` reads the options, and `error` reports what could not be done.
//!
//! [Zipkin v2 span]: https://zipkin.io/zipkin-api/#/default/post_spans

// Where there are no Unix sockets, and no probes either, much of the crate has no caller.
#![cfg_attr(not(unix), allow(dead_code))]

mod builder;
mod callsite;
mod clock;
mod context;
mod delivery;
mod encode;
mod error;
mod fields;
mod identity;
mod layer;
mod limits;
mod on_demand;
mod probes;
mod process;
mod resource;
mod sampler;
mod span;
mod spans;
mod thread;

pub use builder::Builder;
pub use context::{SpanContext, SpanId, TraceId};
pub use delivery::{Delivery, Dropped, Stats};
pub use encode::Format;
pub use error::Error;
pub use layer::{Handle, UsdtLayer};
pub use on_demand::OnDemand;
pub use sampler::Sampler;

/// The layer with everything from the environment: [`builder`]`().build()`.
///
/// ```
/// use tracing_subscriber::{fmt, prelude::*};
///
/// tracing_subscriber::registry().with(tracing_usdt::layer()).with(fmt::layer()).init();
/// ```
pub fn layer() -> UsdtLayer {
    builder().build()
}

/// A [`Builder`], for what is better said in code than by the environment.
pub fn builder() -> Builder {
    Builder::default()
}

/// A filter that enables spans and events only while somebody looks; see [`OnDemand`] for when that
/// is the right thing.
pub fn on_demand() -> OnDemand {
    OnDemand::new()
}
