//! docs later
#![allow(missing_docs)]
mod builder;
mod callsite;
mod clock;
mod context;
mod delivery;
mod encode;
mod error;
mod fields;
mod layer;
mod probes;
mod resource;
mod sampler;
mod span;
mod thread;

pub use builder::Builder;
pub use context::{SpanContext, SpanId, TraceId};
pub use delivery::{Dropped, Stats};
pub use error::Error;
pub use layer::{Handle, UsdtLayer};
pub use sampler::Sampler;

/// The layer with everything from the environment: [`builder`]`().build()`.
pub fn layer() -> UsdtLayer {
    builder().build()
}

/// A [`Builder`], for what is better said in code.
pub fn builder() -> Builder {
    Builder::default()
}
