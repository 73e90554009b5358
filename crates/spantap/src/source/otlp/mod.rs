//! Takes OTLP requests of any exporter over the network: gRPC and HTTP, both on each address.
//!
//! ```text
//!  connections   accepts, up to a limit                                   a task
//!      |         each connection: TLS, if there is a certificate          a task
//!      v
//!   request      who may send (`access`), what it is (`route`), and its   a task
//!      |         `body`, read within a time and a limit of memory
//!      v
//!    queue       uncompressed and decoded: `Intake`                       the thread `requests`
//!      |
//!      v
//!   request      the `answer`, in the client's terms: `grpc` or `http`;
//!                what is not taken is a `denial`
//! ```
//!
//! A request is answered with success once its spans are with the sinks: in the spool, if there is one. One that is not taken for want of room, or
//! because spantap ends, is answered so that the client sends it again. None is taken twice, unless the
//! client does not get the answer: then OTLP has it send the spans again. A request whose client left while it waited is
//! not taken. After a success, a span is lost as others are: with spantap if it waits in memory, or when a target's queue
//! or spool is full, which is counted.
//!
//! The source of each limit is in `limits`.

mod access;
mod answer;
mod body;
mod connections;
mod denial;
mod grpc;
mod http;
mod limits;
mod listen;
mod queue;
mod request;
mod route;
#[cfg(test)]
mod tests;

pub use access::{Settings, Tls};
pub(crate) use connections::Stop;
pub(crate) use listen::bind;
pub(crate) use queue::Requests;
