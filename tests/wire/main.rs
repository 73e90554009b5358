//! Compares the layer and spantap with `docs/wire.md`: the layer sends its examples, spantap reads them, and
//! its tables agree with the code.
//!
//! These tests are not in the crates, because a published package has no `docs`, and because they need both
//! sides and a debugger.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod arguments;
mod reads;
mod sends;
mod tables;
