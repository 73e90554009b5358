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
//! | `close` | span id | name | duration (0: unknown) | busy | trace id high | trace id low | parent id (0: root) | |
//! | `record` | span id | name | fields added, a JSON object | | | | | |
//! | `follows_from` | span id | name | id of the span it follows | | | | | |
//! | `event` | current span id (0: none) | message | target | level | fields, a JSON object | | | |
//! | `span_emit` | span id | the span's JSON, as in a datagram of its own but without `tracingUsdt` | its length in bytes | | | | | |
//!
//! * bpftrace before 0.24 refuses `arg6` and `arg7` on x86-64; `enter` and `close` have the trace
//!   id earlier. Its `str()` gives 63 bytes; longer text is read in pieces, `str(arg5 + 63)`, up to
//!   the NUL and not beyond.
//! * Each probe has its own semaphore: a consumer of `close` alone pays for no field.
//! * The **duration** runs from the creation of a span to its last exit, or to its close if it was
//!   never entered: a clone or a child keeps a span open long after its work is done. **Busy** is
//!   the part of it spent inside, whether or not the thread was on a CPU.
//! * The **name** is the callsite's. The datagram's is `otel.name` where that field is set.
//! * An `event` that is a record of the `log` crate has the record's own target, see [below](crate#records-of-the-log-crate).
//! * A span that began **before anyone listened** gets its id at its first probe, and so do those
//!   above it. Its `enter`, `exit` and `close` fire; `close` has its parent, and a duration and busy
//!   time of 0, which is: unknown. It has no recorded fields, so `span_emit` leaves it out. One that
//!   began while someone listened to **other probes alone** is emitted with its times and without its
//!   fields, which are counted as dropped.
//!
//! # The datagrams
//!
//! With `TRACING_USDT_SOCKET=/run/my-app/trace.sock`, or [`Builder::socket`], every span that ends
//! is sent to that `SOCK_DGRAM` socket. A datagram is a JSON array of [Zipkin v2 spans], which can be
//! POSTed as it is to a Zipkin `/api/v2/spans`; with [`Format::Otlp`], it is an OTLP/JSON request, for any
//! OpenTelemetry collector's `/v1/traces`. The collector may start later, die and come back.
//!
//! [`Delivery::Background`], the default, hands a span over to a thread, which sends up to 32 KiB of them
//! at once, within some 20 milliseconds. It may wait for a full socket; the program never does, unless
//! [`Builder::max_wait`] lets it. [`Delivery::Inline`] sends each span by itself before its close returns,
//! for programs that must not lose what happened right before they crash.
//!
//! `otel.name`, `otel.kind`, `otel.status_code` and `otel.status_description` mean what they mean
//! to `tracing-opentelemetry`; an event of level ERROR, and one with an `error` field and no
//! message, fail the span they happen in. So does a field `error` of the span itself, in either format, as OpenTracing
//! and Zipkin have it: its text is the status's description. **A field `error` that says there was none fails nothing**:
//! `false`, `0` or the `None` of an `Option`, as a value, by `%` or by `?`. Since Zipkin takes any span with a tag
//! `error` as failed, such a field is no tag there; in OTLP it is an attribute like any other. An explicit
//! `otel.status_code` stands. Error values keep their chain of sources. All other fields
//! are tags, beside `level`, `target`, `code.*`, `thread.*`, `busy_ns` and `idle_ns`; a field of
//! yours wins over a tag of ours with the same name. In Zipkin events are annotations, written
//! `"message": {fields}`, and the spans it follows are the tag `follows_from`; whom a client speaks to
//! (`peer.service`, `server.address`, `network.peer.address` and their like) is the `remoteEndpoint`. OTLP has events
//! and links (with trace flags and `tracestate`), and types; and a resource, once in each datagram, with `process.*`, `host.*`, `os.*` and
//! `telemetry.sdk.*`. Each of these can be left out: see [`Builder::level`] and those after it.
//!
//! **Times** are those of the wall clock when a span began and when an event happened, whatever the clock said when the
//! parent began: after a step of the clock (a suspend, a migration, NTP that comes late) all that begins is right, at the latest
//! a tenth of a second after the step. Durations are the monotonic clock's, in which a step is no time. Until the wall clock
//! is stepped, or has drifted by a millisecond, all times of a process are in the order of the monotonic clock: no child
//! begins before its parent. A span that was open during a step keeps the beginning that it had, so its children may lie
//! before or after it, by as much as the step.
//!
//! A span's text is bounded, so that its datagram stays below 64 KiB (unless the resource attributes
//! are large): a span has up to 128 fields, a value of more than 10 KiB is cut at a character boundary, long values yield to
//! short ones, and events are kept up to 20 KiB and 128, links up to 12 KiB and 128. What was cut or left out is counted on the span, in
//! `tracing_usdt.shortened_values_count` and `otel.dropped_{attributes,events,links}_count` (in OTLP
//! its own fields).
//!
//! **Its place.** Each datagram says how many spans were sent before it, so that a receiver can tell what it never got:
//! what lay in the queue of a receiver that was killed was sent, and nobody has it. The member `tracingUsdt`, of an OTLP
//! request or of the last span of a Zipkin list, has `sender` (16 hex digits that each layer of each process draws at
//! random), `sentBefore` (the spans that the socket had taken before) and `spans` (those in this datagram, without the one
//! that reports losses). Readers of both formats pass over members that they don't know. If `sentBefore` is more than all
//! `spans` that came from that `sender`, the difference is missing. `lostBefore`, where it is not 0, says the same of the
//! losses that were reported before. What is lost behind a sender's last datagram can't be
//! seen.
//!
//! # Records of the `log` crate
//!
//! `tracing-log`, which `tracing_subscriber`'s `init` installs, turns records of the `log` crate into events. All of these
//! have the target `log` and no location; what the record says of itself are fields `log.target`, `log.module_path`,
//! `log.file` and `log.line`. Here the event has the record's own `target`, in datagrams and in the probe `event`, and
//! its module, file and line are the attributes `code.module.name`, `code.file.path` and `code.line.number`
//! (left out by [`Builder::location`]). The fields `log.*` are no attributes.
//!
//! # One trace across processes
//!
//! [`SpanContext`] is what travels: [`extract`](SpanContext::extract) reads it from the headers of a request by
//! [W3C Trace Context], level 2, [`in_scope`](SpanContext::in_scope) has spans continue it, and
//! [`SpanExt::context`] and [`inject`](SpanContext::inject) send it on. All of this works while nobody looks.
//! What can't be read begins a trace of its own and is no error. `tracestate` is passed on as it came.
//! [`SpanContext::env`] is for a child process, whose root spans continue `TRACEPARENT` and `TRACESTATE`.
//!
//! [`SpanExt`] also sets a parent, a link, an attribute or the status of a span after it was made.
//!
//! # Sampling
//!
//! A [`Sampler`] decides for each trace, where it begins in this process, whether its spans are sent; by default
//! it follows the remote parent, and sends what begins here. The ratio depends on the trace id alone, so that all
//! processes of a trace decide alike. A field `sampling.priority` on a span decides for it and those below it. A
//! trace that is not sampled sends nothing; its context travels all the same, with the flag off. **Probes fire for
//! all traces**: they cost nothing unless somebody attaches, and then he wants to see.
//!
//! # Losses
//!
//! Every span is accounted for: [`Handle::stats`] says how many were closed, sent, and dropped for which
//! reason, and how many are queued. In the background the queue is a mebibyte for each core (their
//! number rounded up to a power of two), 16 at most; a mebibyte holds some 7000 spans with two fields. A
//! forked child that sends has one of its own. It outlasts a collector's restart; when it is full, a
//! closing span waits up to [`Builder::max_wait`] (by default it doesn't) and is then dropped. Inline, the
//! receiver's own queue is all there is, which on many systems has room for 10 datagrams.
//!
//! What was lost is also told in the stream, at most once a second and at the end, by a span named
//! `tracing_usdt.dropped` with one tag a reason.
//!
//! # Ends, forks and reloads
//!
//! When the program ends, by return from `main`, `exit` or a panic, what is queued is sent, for up to a
//! second; nothing has to be kept or called for that. [`Handle::flush`] does it at any time.
//!
//! **Spans that are still open** at that moment are sent too: spans that a thread is in, that a task holds, or whose guard
//! was leaked. Their duration is what it was so far, whether or not a thread is inside, and they have the attribute
//! `tracing_usdt.unfinished`, which is true. In [`Stats`] they count as closed. A span that began before anyone listened
//! and one of a trace that is not sampled are not sent at exit either.
//!
//! **A program that calls `_exit` or `abort`, or is killed**, takes with it what was closed in its last 20 milliseconds,
//! and its open spans: the kernel runs no code of the program then. Call [`Handle::flush`] before, or use
//! [`Delivery::Inline`]; then all spans that were closed before have left the process.
//!
//! **`exec`** runs no handlers either. In an executable with glibc the layer defines `execv`, `execve` and `execvp`, by
//! which std's `CommandExt::exec` goes, as weak symbols: they wait until what is queued has been sent, for 100 ms at most,
//! and then call the C library's. Open spans are lost, and are not counted. With musl, in a library that another program
//! loads, by `fexecve` and by other ways, call [`Handle::flush`] before.
//!
//! **Where the receiver doesn't read** any more, or went away, the end of the program prints one line on stderr with the
//! number of spans that this process lost; if there never was a receiver, the report of that at the start is all. With
//! [`Builder::on_error`] nothing is printed, and at the end that is not called any more.
//!
//! After `fork` the child draws ids of its own, keeps an account of its own and starts a thread of its own
//! when it closes its first span; a span that was open at the fork is its parent's to report. (A child made
//! without `fork`'s handlers, by a raw `clone` or `_Fork`, goes unnoticed.) The socket is close-on-exec, so a
//! program that is started has none of it. A daemon should close what it inherited before it builds the
//! layer: if it closes our socket too, another one of its own that takes the number may get our datagrams for
//! some 10 ms.
//!
//! Where `reload` takes the layer out, the spans that are open are counted as `abandoned`; to another layer
//! of ours in its place they are spans that began before anyone listened.
//!
//! # Environment
//!
//! Read when the layer is built; what is set on the [`Builder`] wins. An empty variable counts as unset. Spaces and line ends
//! around a value are no part of it (but for a path), and words may be in capitals.
//!
//! | variable | meaning |
//! |---|---|
//! | `TRACING_USDT_SOCKET` | path of the `SOCK_DGRAM` socket; unset: no datagrams. A relative path is relative to the working directory when the layer is built, wherever the program goes later |
//! | `TRACING_USDT_FORMAT` | `zipkin` (default) or `otlp` |
//! | `TRACING_USDT_DELIVERY` | `background` (default) or `inline` |
//! | `TRACING_USDT_MAX_WAIT_MS` | how long a closing span may wait for room; default 0 |
//! | `OTEL_SDK_DISABLED` | as OpenTelemetry defines it: with `true` there are no datagrams, even if the socket is set in code; probes stay |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | as OpenTelemetry defines them: keys and values of the latter are percent-encoded, and if one of them can't be decoded, none is used; default service: [the program's name](crate#names-of-processes) |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | as OpenTelemetry defines them; for datagrams, not for probes |
//! | `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, `OTEL_ATTRIBUTE_COUNT_LIMIT` | how many fields are kept of a span; default 128 |
//! | `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT` | how many characters are kept of a value; by default as many as fit into 10 KiB |
//! | `TRACEPARENT`, `TRACESTATE` | the W3C context that root spans of this process continue |
//!
//! A value that can't be used is reported once and the program runs on without it. Reports go to
//! stderr, or to [`Builder::on_error`].
//!
//! # Names of processes
//!
//! The default of `service.name`, and `process.executable.name` and `process.executable.path`, follow one rule. On Linux they
//! are made of the link `/proc/self/exe` (elsewhere of the executable's path):
//!
//! 1. The path is the link. If it doesn't lead to the file that is executed (compared by device and inode) and ends in
//!    ` (deleted)`, that suffix is the kernel's and is taken off; a file that is there may really be called so.
//! 2. The name is the path's file name; `.NAME-wrapped`, as Nix has it, is NAME.
//! 3. Some programs have no file of their own: those in memory (the link begins with `/memfd:`), in a file without a name
//!    (`/tmp/#123 (deleted)`), and those that the dynamic loader was told to start (`ld-linux-*.so.*`, `ld-musl-*.so.*`, `ld.so`). Their
//!    name is the file name of `argv[0]`; if that is empty or a number (a descriptor, as in `/proc/self/fd/5`), it is
//!    `comm`; if that is a number too or begins with `memfd:`, it is what the link says, without `memfd:` and the suffix. They
//!    have no path.
//! 4. If all of it is empty, the service is `unknown_service`.
//!
//! # Three ways to be idle
//!
//! | | where it is right | an idle span costs | what it gives up |
//! |---|---|---|---|
//! | plain: `.with(layer())` | beside `fmt`, the default | a few loads more than without it | spans that other layers leave out are made for it |
//! | `.with(on_demand()).with(layer())` | the only layer there is | as much as without a subscriber | any other layer sees nothing while nobody looks |
//! | `.with(layer().with_filter(on_demand()))` | beside layers with filters of their own: debug spans that `fmt` leaves out at `info` come alive when somebody attaches | nothing, where no other layer wants it; else some 30 ns more | |
//!
//! With [`on_demand()`] an attach is noticed within 100 milliseconds, for which a thread wakes up
//! twenty times a second; [`OnDemand`] has an example of each.
//!
//! # Beside other layers
//!
//! `EnvFilter`, per-layer filters, `reload`, `Option` and `Vec` of layers work as with any other
//! layer, in any order. Without a filter of its own this layer is interested in all spans, so in a
//! stack where only per-layer filters limit what is enabled it raises the global level to TRACE; give
//! it one too there: [`on_demand()`], or `with_filter(LevelFilter::INFO)`.
//!
//! # Carriers
//!
//! [`SpanContext::extract`] and [`SpanContext::inject`] read and write W3C's `traceparent` and `tracestate` in
//! maps of strings, and in whatever implements [`Extract`] and [`Inject`]. Cargo features, all of them off by
//! default, add more:
//!
//! | feature | what it adds |
//! |---|---|
//! | `http` | `http::HeaderMap` (of `http` 1) as a carrier |
//! | `tonic` | `tonic::metadata::MetadataMap` (of `tonic` 0.14) as a carrier |
//! | `tower` | `tracing_usdt::tower`: layers that make a span for each HTTP request that comes in or goes out, and pass the context on |
//!
//! # Beside tracing-opentelemetry
//!
//! With the cargo feature `tracing-opentelemetry` (off by default; it goes with version 0.34), a span has the
//! trace id, span id and parent in the probes, in the datagrams and in [`SpanExt::context`] that OpenTelemetry
//! exports for it, and is sent if OpenTelemetry samples it:
//!
//! ```
//! # #[cfg(feature = "tracing-opentelemetry")] {
//! use opentelemetry::trace::TracerProvider;
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use tracing_subscriber::prelude::*;
//! use tracing_usdt::OtelTracer;
//!
//! let provider = SdkTracerProvider::builder().build(); // and an exporter
//! let tracer = OtelTracer::new(provider.tracer("my-service"));
//! let subscriber = tracing_subscriber::registry()
//!     .with(tracing_usdt::layer())
//!     .with(tracing_opentelemetry::layer().with_tracer(tracer));
//! # drop(subscriber);
//! # }
//! ```
//!
//! * **Add our layer first.** Then it hears of a span's close first, and can still ask. In the other order a
//!   span that was never entered and has no children keeps ids, and a sampling decision, of our own, which is
//!   reported once, as [`Error::LayerOrder`]. All others agree in either order.
//! * **`OtelTracer`** knows the parents that `tracing` doesn't: those set by `OpenTelemetrySpanExt::set_parent`,
//!   and spans made by other means than `tracing`. Without it, a span's parent is the nearest span above that
//!   is in the same trace in OpenTelemetry, and a span whose parent is elsewhere has none.
//! * OpenTelemetry gives a span its ids when it is entered for the first time, gets its first child, is
//!   followed, or is asked for its context, by its extension trait or ours; otherwise at its close. Until then
//!   `OpenTelemetrySpanExt::set_parent` works, and we don't get in its way: **`new_span` fires only when the ids
//!   are there**, right before the first `enter` or the close, and with its fields as they are then. `record`,
//!   `event` and `follows_from` don't wait; for a span without ids yet, they tell one that nothing else has.
//! * With `with_context_activation(false)` OpenTelemetry itself wouldn't start a span at its first enter. We
//!   do, so `set_parent` has to come before.
//! * OpenTelemetry decides about parents and sampling: our own [`Sampler`], [`SpanExt::set_parent`],
//!   [`SpanContext::in_scope`], `TRACEPARENT` and, while someone listens, `sampling.priority` hold for spans that it
//!   doesn't have. Since it decides after a span has begun, fields are recorded even of those that are not sent in the end.
//! * `tower::ServerLayer` gives OpenTelemetry the caller of a request as its span's parent, as it does for ours.
//! * A span that is open when the program ends and that OpenTelemetry has not started is sent with ids of our own: it exports
//!   no span that is open.
//! * A span that a filter keeps from OpenTelemetry has ids of our own, below the nearest span above it.
//! * A layer of theirs within `reload` can't be asked; all spans have ids of our own then. So have those that a
//!   sampler or a span processor makes with `tracing` while OpenTelemetry starts another span.
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
//! numbers), inherits them, from above or from a `remote` parent, or takes those that `otel` was told, `sampler`
//! decides whether its trace is sent, `fields` reads the values out of
//! the visitor within `limits`, and `span` keeps them with the times of `clock`, in the table `spans`, until
//! the span closes. Then `probes` fires `close` and `span_emit`, and `delivery` takes the span: through a
//! `ring` to its thread, or at once, `encode` writes the JSON, with `resource` for who sends it and what
//! `callsite` knows for good, and the account is kept. `builder` reads the options, `error` reports what
//! could not be done, `executable` says what the program is called, `process` notices forks and the end, and `on_demand` closes callsites while nobody
//! looks. `span_ext` is how a program asks and tells the layer of a span, `carrier` what a context travels in,
//! `trace_state` what goes with it, and `vocabulary` which of OpenTelemetry's words are used.
//!
//! [W3C Trace Context]: https://www.w3.org/TR/trace-context-2/
//! [Zipkin v2 spans]: https://zipkin.io/zipkin-api/#/default/post_spans

// Where there are no Unix sockets, and no probes either, much of the crate has no caller.
#![cfg_attr(not(unix), allow(dead_code))]

mod builder;
mod callsite;
mod carrier;
mod clock;
mod context;
mod delivery;
mod encode;
mod error;
mod executable;
mod fields;
mod identity;
mod layer;
mod limits;
mod link;
mod on_demand;
mod otel;
mod probes;
mod process;
mod remote;
mod resource;
mod sampler;
mod span;
mod span_ext;
mod spans;
mod thread;
#[cfg(feature = "tower")]
pub mod tower;
mod trace_state;
mod vocabulary;

pub use builder::Builder;
pub use carrier::{Extract, Inject};
pub use context::{SpanContext, SpanId, TraceId};
pub use delivery::{Delivery, Dropped, Stats};
pub use encode::Format;
pub use error::Error;
pub use layer::{Handle, UsdtLayer};
pub use on_demand::OnDemand;
#[cfg(feature = "tracing-opentelemetry")]
pub use otel::OtelTracer;
pub use sampler::{Sampler, SamplingRequest, ShouldSample};
pub use span_ext::{AttributeValue, SpanExt, Status};
pub use trace_state::TraceState;

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
