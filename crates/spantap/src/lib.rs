//! The collector of tracing-usdt: the parts of the program `spantap`, in the order in which a span
//! passes through them.
//!
//! ```text
//! source   datagrams off the socket, each with who sent it      a thread that does nothing else
//!    |
//! decode   Zipkin or OTLP, JSON --> spans of a `Process`        a thread
//!    |  \
//!    |   trace     spans --> `Trace`s, view --> the terminal    a thread, which may fall behind
//!    v
//! sink     `Chunk`s --> queue or spool --> OTLP, Zipkin, JSONL  tasks
//! ```
//!
//! What each part took, passed on and lost is in `figures`.

pub mod chunk;
pub mod notices;
pub mod process;
pub mod trace;
