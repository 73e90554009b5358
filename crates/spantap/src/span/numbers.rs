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
pub(crate) const NAME: u32 = 5;
#[cfg(feature = "ebpf")]
pub(crate) const ATTRIBUTES: u32 = 9;
