//! The collector of tracing-usdt: the parts of the program `spantap`, in the order in which a span
//! passes through them.
//!
//! ```text
//! source     datagrams from the socket, each with its sender,     its own thread
//!    |       or records of the eBPF programs in `src/bpf`: spans
//!    |       and kernel activity during them (feature `ebpf`);
//!    |       and OTLP requests of other programs                  tasks, and a thread
//!    v
//! pipeline   passes what the source reads through the next two
//!  | decode  Zipkin or OTLP, in JSON --> spans of a `Process`     a thread
//!  | encode  spans --> OTLP, in protobuf: a `Chunk`               another thread
//!  |    \
//!  |     trace    spans --> `Trace`s, drawn by `view` on the      a thread, which may fall behind
//!  v              `terminal`
//! sampling   with `--keep`: the spans of chosen traces --> `Chunk`s
//!  |
//!  v
//! sink       `Chunk`s --> queue or spool --> OTLP, Zipkin, JSONL  tasks
//!  |         or `capture`
//!  v
//! capture    a file of frames, read back as spans of a `Process`
//! ```
//!
//! Spans that are still open are not on this way: `decode` hands them to `open`, and the `terminal` shows them.
//!
//! `commands` starts and ends them. `stats` and [`sink::SinkStats`] count what each part received, passed on and
//! lost, and `metrics` serves these counts to Prometheus. `query` finds whether a query chooses a span.
//! `flight` keeps the latest spans in memory, as the frames of a capture. `search` finds traces in captures, `findings` what is
//! wrong in them, `graph` who calls whom, `diff` what has changed, and `export` writes them for other programs; `replacement`
//! replaces files as a whole. `top` is the full screen.
//!
//! A part uses only parts that come before it in this list:
//!
//! ```text
//! text, replacement, span, process, notes, query, decode, encode, capture, flight, trace, open, search, findings, graph, diff, view,
//! export, sampling, sink, stats, terminal,
//! metrics, top, pipeline, source, commands
//! ```

pub mod capture;
pub mod commands;
pub mod decode;
pub mod diff;
pub mod encode;
pub mod export;
pub mod findings;
pub mod flight;
pub mod graph;
pub mod metrics;
pub mod notes;
pub mod open;
pub mod pipeline;
pub mod process;
pub mod query;
mod replacement;
pub mod sampling;
pub mod search;
pub mod sink;
pub mod source;
pub mod span;
pub mod stats;
pub mod terminal;
pub mod text;
pub mod top;
pub mod trace;
pub mod view;
