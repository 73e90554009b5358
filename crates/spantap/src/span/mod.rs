//! Reads OpenTelemetry's spans, and defines the attributes that spantap adds to them.
//!
//! `attributes` makes and reads attributes, and `status` reads a span's status. `account` has the attributes for the
//! time in each thread state, and `zipkin` those for the halves of a shared span. `kernel` tells spans of kernel activity
//! from others. `encoded` has spans that stay as they
//! were sent, and `undecoded` reads parts of them; `short` reads a usual field. `numbers` has the numbers of OTLP's fields.

pub(crate) mod account;
pub(crate) mod attributes;
mod encoded;
mod kernel;
pub(crate) mod numbers;
mod short;
mod status;
mod undecoded;
pub(crate) mod zipkin;

pub(crate) use encoded::{ALLOCATION, DecodedSize, decode_field, next_message};
pub use encoded::{EncodedScopes, Summary};
pub(crate) use kernel::{KERNEL_SCOPE, is_kernel_scope};
pub(crate) use short::short_bytes;
pub(crate) use status::is_error;
pub(crate) use undecoded::{Undecoded, name_of_field};
