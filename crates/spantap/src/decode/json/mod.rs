//! Reads JSON with serde_json, value by value.
//!
//! serde_json's own way through a document ends at the first value that is not as expected. Here a value that can't be
//! read does not affect the others: [`Json::attempt`] goes on after it. So `document` goes through objects and arrays,
//! `member` declares the members that an object may have, and `values` reads values, with `string` and `decimal` for
//! what serde_json refuses. It is as lenient as RFC 8259 allows: half of a surrogate pair becomes U+FFFD, and nesting
//! has no limit.

mod decimal;
mod document;
pub(super) mod member;
mod string;
mod values;

pub(super) use document::Json;
pub(super) use member::members;
pub(super) use values::Scalar;
