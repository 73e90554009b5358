//! The numbers of fields in OTLP's messages in protobuf.

/// Of `ExportTraceServiceRequest`.
pub(crate) const RESOURCE_SPANS: u32 = 1;

/// Of `ResourceSpans`.
pub(crate) const RESOURCE: u32 = 1;
pub(crate) const SCOPE_SPANS: u32 = 2;

/// Of `ScopeSpans`.
pub(crate) const SCOPE: u32 = 1;
pub(crate) const SPANS: u32 = 2;
pub(crate) const SCHEMA_URL: u32 = 3;

/// Of `Span`. The first two are fields of this project's layer; see `docs/wire.md`.
pub(crate) const BUSY: u32 = 1017;
pub(crate) const ENTERED: u32 = 1018;
pub(crate) const TRACE_ID: u32 = 1;
pub(crate) const SPAN_ID: u32 = 2;
pub(crate) const PARENT_ID: u32 = 4;
pub(crate) const NAME: u32 = 5;
pub(crate) const KIND: u32 = 6;
pub(crate) const ATTRIBUTES: u32 = 9;
pub(crate) const STATUS: u32 = 15;

/// Of `Status`.
pub(crate) const CODE: u32 = 3;

/// Of `KeyValue`.
pub(crate) const KEY: u32 = 1;
