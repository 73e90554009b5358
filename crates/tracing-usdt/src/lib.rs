//! A [`tracing_subscriber`] layer that makes the spans of a program visible from outside, without a restart:
//!
//! * as **USDT probes**, for bpftrace, perf, gdb and eBPF programs;
//! * as **datagrams**, Zipkin or OTLP, for any program that binds a Unix socket.
//!
//! While nobody listens, that is while no consumer is attached to a probe and no socket is set, a span costs
//! next to nothing.
//!
//! # Getting started
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
//! #   #[cfg(any())] // shown to the reader, not run by the test
//!     let (rounds, pause) = (1000, 10);
//!     for n in 0..rounds {
//!         let _request = tracing::info_span!("request", n).entered();
//!         let _query = tracing::info_span!("query").entered();
//!         sleep(Duration::from_millis(pause));
//!     }
//! }
//! ```
//!
//! While the program runs, make a histogram of its spans in another terminal (`apt-get install bpftrace`):
//!
//! ```text
//! # bpftrace -e 'usdt:./target/debug/my-app:tracing:close { @us[str(arg1)] = hist(arg2 / 1000); }'
//! Attaching 1 probe...
//! ^C
//! @us[query]:
//! [8K, 16K)             87 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
//! ```
//!
//! The folder `examples/bpftrace` of the repository has tools for latencies, polls, time off the CPU and
//! system calls by span. gdb lists the probes with `info probes stap tracing` and stops at one with
//! `break -probe-stap tracing:close`.
//!
//! # The probes
//!
//! The provider is `tracing`. An argument never changes its position; new arguments are added at the end.
//! Strings end with a NUL, as bpftrace's `str(arg1)` expects. Ids are the same as in the datagrams
//! (`%016llx`). Levels go from 1 ERROR to 5 TRACE. Times are in nanoseconds.
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
//! | `batch_emit` | a batch, as a datagram of OTLP in protobuf | bytes of the batch | spans of the batch | | | | | |
//! | `thread_register` | address of the thread's context | layout of the context | | | | | | |
//!
//! * bpftrace before 0.24 refuses `arg6` and `arg7` on x86-64; `enter` and `close` have the trace id in
//!   earlier arguments. Its `str()` returns 63 bytes. Read longer text in pieces, `str(arg5 + 63)`, up to the
//!   NUL and not beyond.
//! * Each probe has its own semaphore, so a consumer of `close` alone does not pay for encoding fields.
//! * The **duration** runs from the creation of a span to its last exit, or to its close if it was never
//!   entered. The close of a span that was entered does not count, because a clone or a child can keep a span
//!   open long after its work is done. **Busy** is the part of the duration in which the span was entered,
//!   whether or not the thread was on a CPU.
//! * The **name** is the callsite's. A datagram has the field `otel.name` instead, if it is set.
//! * An `event` that is a record of the `log` crate has the record's own target, see
//!   [below](crate#records-of-the-log-crate).
//! * A span that was created **before anyone listened** gets its id at its first probe, and so do the spans
//!   above it. Its `enter`, `exit` and `close` fire. `close` has its parent, and a duration and busy time of
//!   0, which means unknown. Its fields were not recorded, so it has no `span_emit`.
//! * A span that was created while **only other probes** had consumers has a `span_emit` with its times. Its
//!   fields were recorded only if `new_span` had a consumer; the missing ones are counted as dropped.
//! * `batch_emit` is for collectors such as `spantap attach`: a thread of the layer gathers closed spans for about 20 ms
//!   and hits it once for many of them. It has those spans, too, that began before anyone listened.
//! * While `thread_register` has a consumer, each thread says in its own memory which spans it is in. A profiler or an
//!   eBPF program reads that at a sample or a context switch. `docs/wire.md` in the repository describes it.
//!
//! # The datagrams
//!
//! With `TRACING_USDT_SOCKET=/run/my-app/trace.sock`, or [`Builder::with_socket`], the layer sends every span
//! that closes to that `SOCK_DGRAM` socket. By default a datagram is a JSON array of [Zipkin v2 spans], which
//! can be POSTed as it is to a Zipkin server's `/api/v2/spans`. With [`Format::OtlpJson`] it is an OTLP/JSON
//! request, for `/v1/traces` of any OpenTelemetry collector, and with [`Format::OtlpProtobuf`] the same request
//! in protobuf. The receiver may start later than the program, and may be restarted.
//!
//! [`Delivery::Background`], the default, hands a closed span to a thread, which sends up to 32 KiB of spans
//! in one datagram, within about 20 milliseconds. This thread waits while the socket is full. The program
//! never waits, unless [`Builder::with_max_wait`] allows it. [`Delivery::Inline`] sends each span in a
//! datagram of its own before its close returns, for programs that must not lose the last spans before a
//! crash.
//!
//! **Attributes.** Fields become tags (Zipkin) or attributes (OTLP). The layer adds `level`, `target`,
//! `code.*`, `thread.*`, `busy_ns` and `idle_ns`; a field with the same name takes precedence. Each of these
//! can be left out: see [`Builder::with_level`] and the methods after it. Error values keep their chain of
//! sources. OTLP keeps the types of values, and has a resource, once in each datagram, with `process.*`,
//! `host.*`, `os.*` and `telemetry.sdk.*`.
//!
//! **Name, kind and status.** The fields `otel.name`, `otel.kind`, `otel.status_code` and
//! `otel.status_description` have the same meaning as for `tracing-opentelemetry`. An explicit
//! `otel.status_code` takes precedence. Without one, these make the status of a span an error:
//!
//! * an event of level ERROR in the span;
//! * an event in the span with a field `error` and no message;
//! * a field `otel.status_description` of the span;
//! * a field `error` of the span, as in OpenTracing and Zipkin. Its text is the status's description.
//!
//! **A field `error` that denies an error is no error**: `false`, `0`, or the `None` of an `Option`, recorded
//! as a value, by `%` or by `?`. Zipkin shows any span with a tag `error` as failed, so such a field does not
//! become a tag. In OTLP it is an attribute like any other.
//!
//! **Events and links.** In Zipkin, events are annotations, written as `"message": {fields}`, and the
//! links of a span are its tag `follows_from`: the spans that it follows from, and those of
//! [`SpanExt::link_to`]. OTLP has events and links; links have trace flags and
//! `tracestate`. In Zipkin, the peer of a client or a producer is the `remoteEndpoint`, from attributes such
//! as `peer.service`, `server.address` and `network.peer.address`.
//!
//! **Times** of spans and events are those of the wall clock when they began or happened, even if the clock
//! was different when their parent began. After a step of the clock (a suspend, a migration, a late NTP), new
//! times are right at the latest after a tenth of a second. Durations are those of the monotonic clock, so
//! they do not include a step. Until the wall clock is stepped, or has drifted by a millisecond, all times of
//! a process are in the order of the monotonic clock, and no child begins before its parent. A span that is
//! open during a step keeps its start time, so its children may lie before or after it by the size of the
//! step.
//!
//! **Limits** keep the text of a span below 64 KiB, and the resource attributes that the user sets below
//! 4 KiB. A span keeps up to 128 fields, up to 128 events of 20 KiB together, and up to 128 links of 12 KiB
//! together. A value of more than 10 KiB (4 KiB in an event) is shortened at a character boundary. Long values
//! are shortened further where needed, to leave room for short ones. What was shortened or dropped is counted on the span, in
//! `tracing_usdt.shortened_values_count` and `otel.dropped_{attributes,events,links}_count` (in OTLP, in its
//! own fields).
//!
//! **Sequence.** Each datagram has a member `tracingUsdt`, by which a receiver notices missing spans, for
//! example those that were in the queue of a receiver that was killed. In OTLP it is a member of the request (in
//! protobuf, field 1017), in Zipkin of the last span of the list. Readers of all formats ignore members that they
//! don't know. It has:
//!
//! * `sender`: 16 hex digits, which each layer in each process draws at random;
//! * `sentBefore`: how many spans the socket had taken before;
//! * `spans`: how many spans this datagram holds, without the one that reports losses;
//! * `lostBefore`, if it is not 0: how many spans were reported as lost before.
//!
//! If `sentBefore` is greater than the sum of `spans` that came from that `sender`, the difference is
//! missing. If `lostBefore` is greater than the losses that were reported, the difference is reports that are
//! missing. Nothing shows what is lost after a sender's last datagram.
//!
//! `docs/wire.md` in the repository defines the format, with examples.
//!
//! # Open spans
//!
//! A span that hangs is not sent until it closes. With [`Builder::with_open_spans`], or `TRACING_USDT_OPEN_SPANS=1s`, the
//! layer reports the spans that are open for longer, while they are open: their ids, times and fields so far, the oldest
//! first, as many as a datagram of 32 KiB holds, and how many there are. A report replaces the report before it, and a span
//! in it counts as nothing: when it closes, it is sent like any other. Consumers of `batch_emit` get such reports as well, by
//! default of spans that are open for more than a second.
//!
//! No report has spans that were created before anyone listened, and spans of traces that are not sampled are only in those
//! of `batch_emit`. A span in a report has neither events nor links, nor attributes from its baggage.
//!
//! The sender thread starts before the first span then, and in a forked child with its first span, instead of with the first
//! that closes. Spans pay nothing for this. The sender thread looks at those that are open, at most twenty times a second and
//! one at a time. Inline delivery has no such thread, and Zipkin's format no place for a report, so with these there is none.
//!
//! # Records of the `log` crate
//!
//! `tracing-log`, which `tracing_subscriber`'s `init` installs, turns records of the `log` crate into events.
//! All these events have the target `log` and no location. The record's own target and location are in the
//! fields `log.target`, `log.module_path`, `log.file` and `log.line`.
//!
//! The layer undoes this: the event has the record's own `target`, in datagrams and in the probe `event`, and
//! its module, file and line are the attributes `code.module.name`, `code.file.path` and `code.line.number`
//! (which [`Builder::with_location`] can leave out). The fields `log.*` do not become attributes.
//!
//! # One trace across processes
//!
//! [`SpanContext`] is the context of a span that travels between processes, by [W3C Trace Context], level 2:
//!
//! * [`SpanContext::extract`] reads it from the headers of a request, and [`SpanContext::in_scope`] makes
//!   spans continue it.
//! * [`SpanExt::trace_context`] returns the context of a span, and [`SpanContext::inject`] writes it to the
//!   headers of a request.
//! * [`SpanContext::env`] is for a child process, whose root spans continue `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`.
//!
//! All of this works while nobody listens. A context that can't be read is not an error: the span begins a
//! new trace. `tracestate` is passed on unchanged.
//!
//! **Baggage.** A context also has the [W3C baggage] of the request: keys and values that a program attaches to a
//! trace, such as the id of a user, and that reach all programs that the request reaches. [`SpanExt::baggage`] and
//! [`SpanExt::set_baggage`] read and set it. A span without baggage of its own has that of the nearest span above it.
//! [`Builder::with_baggage_attributes`] chooses keys that become attributes of spans:
//!
//! ```
//! use std::collections::BTreeMap;
//! use tracing_subscriber::prelude::*;
//! use tracing_usdt::{SpanContext, SpanExt};
//!
//! let layer = tracing_usdt::builder().with_baggage_attributes(["user.id"]).build();
//! tracing_subscriber::registry().with(layer).init();
//!
//! let request = tracing::info_span!("request");
//! request.set_baggage_entry("user.id", "7"); // an attribute of this span, and of those below it
//! let call = request.in_scope(|| tracing::info_span!("call"));
//!
//! let mut headers = BTreeMap::new();
//! call.trace_context().unwrap().inject(&mut headers);
//! assert_eq!(headers["baggage"], "user.id=7");
//! assert_eq!(SpanContext::extract(&headers).unwrap().baggage().get("user.id").as_deref(), Some("7"));
//! ```
//!
//! Everyone whom a request reaches can read its baggage, and anyone who sends one can set it. Up to 64 entries and 8192
//! bytes are passed on.
//!
//! [`SpanExt`] also sets a parent, a link, an attribute or the status of a span after its creation.
//!
//! # Sampling
//!
//! A [`Sampler`] decides for each trace, where it begins in this process, whether its spans are sent. By
//! default it follows the remote parent, and sends traces that begin here. The decision by ratio depends only
//! on the trace id, so all processes of a trace decide alike. A field `sampling.priority` on a span decides
//! for that span and those below it.
//!
//! The spans of a trace that is not sampled are not sent. Its context is passed on all the same, with the
//! sampled flag off. **Probes fire for all traces**: they cost nothing unless a consumer attaches, and then
//! it should see every span.
//!
//! # Losses
//!
//! Every span is counted. [`Handle::stats`] returns how many spans were closed, sent, queued, and dropped for
//! which reason.
//!
//! With background delivery, the queue has one mebibyte for each core (the number of cores rounded up to a
//! power of two), and at most 16. A mebibyte holds about 7000 spans with two fields. A forked child that
//! sends has a queue of its own. The queue bridges a restart of the receiver. When it is full, a closing span
//! waits up to [`Builder::with_max_wait`] (by default not at all), and is then dropped. With inline delivery
//! there is only the receiver's own queue, which on many systems has room for 10 datagrams.
//!
//! Losses are also reported in the stream, at most once a second and at the end, by a span named
//! `tracing_usdt.dropped` with one tag for each reason.
//!
//! # Exit, fork, exec and reload
//!
//! When the program ends, by return from `main`, `exit` or a panic, the layer sends what is queued, for up to
//! a second. The program need not keep a guard or call anything. [`Handle::flush`] sends what is queued at
//! any other time.
//!
//! **Spans that are still open** when the program ends are sent too: spans that a thread is in, spans that a
//! task holds, and spans whose guard was leaked. Their duration is the time until then, whether or not a
//! thread is inside, and the attribute `tracing_usdt.unfinished` is true. In [`Stats`] they count as closed.
//! A span that was created before anyone listened, and a span of a trace that is not sampled, is not sent at
//! exit either.
//!
//! **If a program calls `_exit` or `abort`, or is killed**, the spans that were closed in its last 20
//! milliseconds are lost, and so are its open spans: the kernel runs no code of the program then. Call
//! [`Handle::flush`] before, or use [`Delivery::Inline`], with which every closed span has already left the
//! process.
//!
//! **`exec`** runs no exit handlers either. In an executable with glibc, the layer defines `execv`, `execve`
//! and `execvp`, which std's `CommandExt::exec` calls, as weak symbols. They wait until what is queued has
//! been sent, for 100 ms at most, and then call the C library's functions. Open spans are lost, and are not
//! counted. With musl, in a library that another program loads, and before `fexecve` and other functions,
//! call [`Handle::flush`].
//!
//! **If the receiver stops reading or goes away**, the program prints one line on stderr when it ends, with
//! the number of spans that this process lost. If there never was a receiver, only the report at the start is
//! printed. With [`Builder::on_error`] nothing is printed, and the callback is not called at the end.
//!
//! **After `fork`** the child draws ids of its own, counts its own spans, and starts a thread of its own when
//! it closes its first span. The parent reports the spans that were open at the fork. (A child that a raw
//! `clone` or `_Fork` makes, without `fork`'s handlers, is not noticed.)
//!
//! The socket is close-on-exec, so a program that is started does not inherit it. A daemon should close the
//! descriptors that it inherited before it builds the layer. If it closes the layer's socket too, and another
//! socket of it gets the same number, that socket may get datagrams for about 10 ms.
//!
//! **If `reload` takes the layer out**, open spans are counted as `abandoned`. For a layer that replaces it,
//! they are spans that were created before anyone listened.
//!
//! # Environment
//!
//! The layer reads the environment when it is built; options that are set on the [`Builder`] take precedence.
//! An empty variable counts as unset. Spaces and line ends around a value are ignored (except for a path),
//! and words may be in capitals.
//!
//! | variable | meaning | default | a value that can't be used |
//! |---|---|---|---|
//! | `TRACING_USDT_SOCKET` | path of the `SOCK_DGRAM` socket; a relative path is relative to the working directory when the layer is built | no datagrams | spans are kept while there is room, then dropped and counted; the socket is tried again |
//! | `TRACING_USDT_FORMAT` | `zipkin`, `otlp-json` (also `otlp`) or `otlp-protobuf` | `zipkin` | no datagrams |
//! | `TRACING_USDT_DELIVERY` | `background`: a thread sends many spans at once; `inline`: a span is sent before its close returns | `background` | the default |
//! | `TRACING_USDT_MAX_WAIT_MS` | how many milliseconds a closing span may wait for room before it is dropped and counted | 0 | the default |
//! | `TRACING_USDT_OPEN_SPANS` | report spans that are open for so long, while they are open: `500ms`, `1s`, `2m`; only with background delivery and the formats of OTLP. While nobody receives, a thread of the layer wakes once a second to see whether somebody does | no reports | the default |
//! | `OTEL_SDK_DISABLED` | `true`: no datagrams, even if the socket is set in code; probes stay | `false` | the default |
//! | `OTEL_SERVICE_NAME` | the service's name in the datagrams | [the program's name](crate#names-of-processes) | |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `key=value` pairs with commas between, keys and values percent-encoded, up to 4 KiB | none | none of them is used; those beyond 4 KiB are left out |
//! | `OTEL_TRACES_SAMPLER` | which traces are sent: `always_on`, `always_off`, `traceidratio`, or one of these with `parentbased_` before it; probes fire for all | `parentbased_always_on` | the default |
//! | `OTEL_TRACES_SAMPLER_ARG` | the ratio for `traceidratio`, from 0 to 1 | 1 | the default |
//! | `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, `OTEL_ATTRIBUTE_COUNT_LIMIT` | how many fields are kept of a span, and of an event; the first wins | 128 | it counts as unset |
//! | `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT` | how many characters are kept of a value; the first wins | as many as fit into 10 KiB | it counts as unset |
//! | `TRACEPARENT` | the W3C context that root spans of this process continue | new traces | the default |
//! | `TRACESTATE` | goes with `TRACEPARENT` | none | the default |
//! | `BAGGAGE` | the W3C baggage of root spans of this process, with or without `TRACEPARENT` | none | the default |
//! | `TRACING_USDT_BAGGAGE_ATTRIBUTES` | keys of baggage, with commas between, that become attributes of spans | none | none of them is used |
//!
//! A value that can't be used is reported once, and the program runs on without it. Errors are reported on
//! stderr, or to [`Builder::on_error`].
//!
//! # Names of processes
//!
//! The default of `service.name`, and the attributes `process.executable.name` and `process.executable.path`,
//! follow one rule. On Linux they come from the link `/proc/self/exe` (elsewhere from the executable's path):
//!
//! 1. The path is the link's target. If the target is not the file that is executed (compared by device and
//!    inode) and ends in ` (deleted)`, the kernel has added that suffix, and it is removed. A file that
//!    exists may really have such a name.
//! 2. The name is the path's file name. Of `.NAME-wrapped`, as Nix names wrapped programs, the name is NAME.
//! 3. Some programs have no file of their own: programs in memory (the link begins with `/memfd:`), programs
//!    in a file without a name (`/tmp/#123 (deleted)`), and programs that the dynamic loader was told to
//!    start (`ld-linux-*.so.*`, `ld-musl-*.so.*`, `ld.so`). They have no path. Their name is the first of
//!    these that can be used:
//!    * the file name of `argv[0]`, unless it is empty or a number (a descriptor, as in `/proc/self/fd/5`);
//!    * `comm`, unless it is a number too or begins with `memfd:`;
//!    * the link's target, without `memfd:` and the suffix.
//! 4. If all of these are empty, the service is `unknown_service`.
//!
//! # Three ways to be idle
//!
//! | | when to use it | an idle span costs | drawback |
//! |---|---|---|---|
//! | plain: `.with(layer())` | the default, beside `fmt` | a few loads more than without it | spans that all other layers disable are created for this one |
//! | `.with(on_demand()).with(layer())` | this is the only layer | as much as without a subscriber | any other layer sees nothing while nobody listens |
//! | `.with(layer().with_filter(on_demand()))` | beside layers with filters of their own: debug spans that `fmt` disables at `info` are enabled when a consumer attaches | nothing if no other layer enables it; otherwise about 100 ns more | |
//!
//! With [`on_demand()`], an attach is noticed within 100 milliseconds, for which a thread wakes up twenty
//! times a second. [`OnDemand`] has an example of each.
//!
//! # Beside other layers
//!
//! `EnvFilter`, filters of layers, `reload`, and an `Option` or a `Vec` of layers work as with any other
//! layer, in any order. Without a filter of its own, this layer enables all spans. So if only filters of
//! layers limit what is enabled, it raises the global level to TRACE. Give it a filter too in that case:
//! [`on_demand()`], or `with_filter(LevelFilter::INFO)`.
//!
//! # Log lines with ids
//!
//! With the cargo feature `fmt`, `with_trace_ids` adds the ids of its span to each line that the `fmt` layer writes, so
//! that a log can be searched by trace:
//!
//! ```
//! # #[cfg(feature = "fmt")] {
//! use tracing_subscriber::{fmt, prelude::*};
//!
//! tracing_subscriber::registry()
//!     .with(tracing_usdt::layer())
//!     .with(fmt::layer().map_event_format(tracing_usdt::with_trace_ids))
//!     .init();
//!
//! let _request = tracing::info_span!("request", n = 7).entered();
//! tracing::info!("found");
//! # }
//! ```
//!
//! ```text
//! 2026-01-01T12:00:00.000000Z  INFO request{n=7}: my_app: found trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7
//! ```
//!
//! In JSON they are members of the object, `"trace_id"` and `"span_id"`. Lines outside of spans stay as they are. The ids
//! are the same in the datagrams, in the probes and in `traceparent`, also while nobody listens.
//!
//! | feature | what it adds |
//! |---|---|
//! | `fmt` | `with_trace_ids`, for the formats `Full` (the default) and `Compact` of `tracing_subscriber::fmt` |
//! | `fmt-json` | the same for `Json` |
//! | `fmt-pretty` | the same for `Pretty` |
//!
//! # Carriers
//!
//! [`SpanContext::extract`] and [`SpanContext::inject`] read and write W3C's `traceparent`, `tracestate` and `baggage`
//! in maps of strings, and in any type that implements [`Extract`] and [`Inject`]. Cargo features add more
//! types; all are off by default:
//!
//! | feature | what it adds |
//! |---|---|
//! | `http` | `http::HeaderMap` (of `http` 1) as a carrier |
//! | `tonic` | `tonic::metadata::MetadataMap` (of `tonic` 0.14) as a carrier |
//!
//! The crate `tracing-usdt-tower` has layers for `tower` that make a span for each HTTP request that a
//! program answers or sends, and pass the context on.
//!
//! # Beside tracing-opentelemetry
//!
//! With the cargo feature `tracing-opentelemetry` (for its version 0.34), this layer can take over the ids of
//! that layer. A span then has the trace id, span id and parent that OpenTelemetry exports for it in the
//! probes, in the datagrams and in [`SpanExt::trace_context`], and it is sent if OpenTelemetry samples it.
//! The feature alone changes nothing; the builder turns this on:
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
//!     .with(tracing_usdt::builder().with_opentelemetry_ids(true).build())
//!     .with(tracing_opentelemetry::layer().with_tracer(tracer));
//! # drop(subscriber);
//! # }
//! ```
//!
//! * **Add this layer first.** Then it sees the close of a span first, while it can still ask for the ids. In
//!   the other order, a span that was never entered and has no children keeps ids and a sampling decision of
//!   our own, which is reported once, as [`Error::LayerOrder`]. All other spans agree in either order.
//! * **Use `OtelTracer`.** It records the parents that `tracing` does not know: those set by
//!   `OpenTelemetrySpanExt::set_parent`, and spans that were not made with `tracing`. Without it, the parent
//!   of a span is the nearest span above that is in the same trace in OpenTelemetry, and a span whose parent
//!   is elsewhere has none.
//! * **`new_span` fires later.** OpenTelemetry gives a span its ids when it is entered for the first time,
//!   gets its first child, is followed, or is asked for its context, by its extension trait or ours;
//!   otherwise at its close. Until then `OpenTelemetrySpanExt::set_parent` works, so this layer does not ask
//!   earlier. `new_span` fires when the ids are known, right before the first `enter` or the close, with the
//!   fields as they are then. `record`, `event` and `follows_from` don't wait: for a span without ids yet,
//!   they have a temporary id that appears nowhere else.
//! * With `with_context_activation(false)`, OpenTelemetry itself does not start a span at its first enter.
//!   This layer does, so call `set_parent` before.
//! * OpenTelemetry decides about parents and sampling. The [`Sampler`] of this crate,
//!   [`SpanExt::set_remote_parent`], [`SpanContext::in_scope`], `TRACEPARENT` and, while someone listens,
//!   `sampling.priority` only apply to spans that OpenTelemetry does not have. Since it decides after a
//!   span's creation, fields are recorded even of spans that are not sent in the end.
//! * `tracing_usdt_tower::ServerLayer` can give OpenTelemetry the caller of a request as the parent of its
//!   span: with a feature of the same name, and `with_opentelemetry_parent(true)`.
//! * A span that is open when the program ends, and that OpenTelemetry has not started, is sent with ids of
//!   our own. OpenTelemetry exports no open spans.
//! * A span that a filter hides from OpenTelemetry has ids of our own, below the nearest span above it.
//! * If the layer of `tracing-opentelemetry` is within `reload`, it can't be asked, and all spans have ids of
//!   our own. So do spans that a sampler or a span processor makes with `tracing` while OpenTelemetry starts
//!   another span, and all spans if `reload` puts this layer into a subscriber that exists already.
//!
//! # Platforms
//!
//! Linux on x86-64 and aarch64, with glibc or static musl, has everything. On riscv64 Linux, probes and
//! datagrams have been compiled but not run. On other Unix systems, and on Linux with other processors, the
//! probes do nothing, and the datagrams have been compiled but not run. On all other platforms the layer
//! compiles and does nothing.
//!
//! # How it is built
//!
//! The modules of this crate are in layers: each uses only those above it in this list.
//!
//! | module | what it does |
//! |---|---|
//! | `aside` | the spans that a thread is in and that its subscriber does not know of |
//! | `bounds` | limits on sizes, and how text is shortened to them |
//! | `bytes` | reads and writes numbers and texts as bytes |
//! | `clock` | the monotonic clock and the wall clock |
//! | `json` | writes JSON |
//! | `protobuf` | writes protobuf |
//! | `sync` | atomics and locks, which loom replaces in tests |
//! | `process` | forks, threads, the end of the program, and the executable's name |
//! | `error` | errors, and how they are reported |
//! | `propagation` | ids and contexts of spans, baggage, and the carriers between processes |
//! | `otel` | asks the layer of `tracing-opentelemetry` for ids |
//! | `probes` | the USDT probes and their semaphores |
//! | `thread_context` | which spans a thread is in, in its own memory |
//! | `sampler` | which traces are sent |
//! | `site` | the probes of a callsite: notes, semaphores, arguments |
//! | `callsite` | what is known of a callsite once and for all |
//! | `on_demand` | a filter that disables callsites while nobody listens |
//! | `fields` | records values of fields, within limits |
//! | `span` | the state of open spans: identity, times and record, in a table |
//! | `encode` | a closed span in the format of the datagrams: Zipkin, OTLP in JSON, OTLP in protobuf |
//! | `delivery` | queues closed spans and sends them to the socket |
//! | `layer` | the callbacks of `tracing`, and what programs call on a span |
//! | `log_lines` | the ids of spans in the lines of `fmt` |
//! | `builder` | options, from code and from the environment |
//! | `probe_only` | spans that no subscriber wants, made for the probes of their callsite |
//! | `macros` | the macros with a probe at each callsite, and what they call |
//! | [`tracing`] | all of `tracing`, with these macros |
//!
//! A span passes through them like this:
//!
//! ```text
//!  tracing: new_span, record, enter, exit, event, close
//!     |
//!     v
//!  layer ------ does anyone listen? --> no: return
//!     |
//!     |-- identity: propagation, sampler (or otel)
//!     |-- state:    span, fields, clock
//!     |-- probes:   new_span, enter, exit, close, ... --> bpftrace, perf, gdb
//!     |
//!     v  on close
//!  delivery: inline ------------------------> encode --> socket
//!            background: ring --> thread ---> encode --> socket
//! ```
//!
//! [W3C baggage]: https://www.w3.org/TR/baggage/
//! [W3C Trace Context]: https://www.w3.org/TR/trace-context-2/
//! [Zipkin v2 spans]: https://zipkin.io/zipkin-api/#/default/post_spans

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// On platforms without Unix sockets and probes, much of the crate is not called.
#![cfg_attr(not(unix), allow(dead_code))]

mod aside;
mod bounds;
mod builder;
mod bytes;
mod callsite;
mod clock;
mod delivery;
mod encode;
mod error;
mod fields;
mod json;
mod layer;
#[cfg(feature = "fmt")]
mod log_lines;
#[doc(hidden)]
pub mod macros;
mod on_demand;
mod otel;
mod probe_only;
mod probes;
mod process;
mod propagation;
mod protobuf;
mod sampler;
mod site;
mod span;
mod sync;
mod thread_context;
pub mod tracing;

pub use builder::Builder;
pub use delivery::{Delivery, Dropped, Stats};
pub use encode::Format;
pub use error::{Error, FlushError};
pub use fields::AttributeValue;
pub use layer::{Handle, SpanExt, Status, UsdtLayer};
#[cfg(feature = "fmt")]
pub use log_lines::{LineFormat, WithTraceIds, with_trace_ids};
pub use on_demand::OnDemand;
#[cfg(feature = "tracing-opentelemetry")]
pub use otel::{OtelSpan, OtelTracer};
pub use propagation::{Baggage, Extract, Inject, SpanContext, SpanId, TraceId, TraceState};
pub use sampler::{Sampler, SamplingRequest, ShouldSample};

/// The layer with its options from the environment: [`builder()`]`.build()`.
///
/// ```
/// use tracing_subscriber::{fmt, prelude::*};
///
/// tracing_subscriber::registry().with(tracing_usdt::layer()).with(fmt::layer()).init();
/// ```
pub fn layer() -> UsdtLayer {
    builder().build()
}

/// A [`Builder`], to set options in code.
pub fn builder() -> Builder {
    Builder::default()
}

/// A filter that enables spans and events only while someone listens; [`OnDemand`] explains when to use it.
pub fn on_demand() -> OnDemand {
    OnDemand::new()
}
