//! The collector of tracing-usdt: the parts of the program `spantap`, in the order in which a span
//! passes through them.
//!
//! ```text
//! source   datagrams off the socket, each with who sent it      a thread that does nothing else
//!    |     or records of eBPF programs, `src/bpf`, with what
//!    |     the kernel did in each span (the feature `ebpf`)
//!    v
//! intake   what a source has, by way of                         a thread of the `pipeline`
//! decode   Zipkin or OTLP, JSON --> spans of a `Process`
//!    |
//! chunk    spans --> OTLP, protobuf                             another of its threads
//!    |  \
//!    |   trace    spans --> `Trace`s, view --> the `terminal`   a thread, which may fall behind
//!    v
//! sink     `Chunk`s --> queue or spool --> OTLP, Zipkin, JSONL  tasks
//! ```
//!
//! `collect` starts and ends them, for `run`, `listen` and `attach`. What each part took, passed on and lost is
//! in `figures` and in [`sink::SinkFigures`], and `metrics` tells it to Prometheus.

mod account;
pub mod attach;
mod attributes;
pub mod chunk;
pub mod cli;
pub mod collect;
pub mod decode;
mod exec;
mod executable;
pub mod figures;
pub mod intake;
pub mod listen;
pub mod metrics;
pub mod notices;
pub mod pipeline;
pub mod process;
pub mod run;
pub mod sequence;
pub mod signals;
pub mod sink;
pub mod source;
pub mod terminal;
pub mod trace;
pub mod view;
