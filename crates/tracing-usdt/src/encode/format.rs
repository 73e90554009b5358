//! The formats of datagrams.

/// The format of datagrams, and of the probe `span_emit`, which has JSON instead of protobuf.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Format {
    /// A JSON array of Zipkin v2 spans, which can be POSTed to `/api/v2/spans`.
    #[default]
    Zipkin,
    /// An OTLP/JSON `ExportTraceServiceRequest`, which can be POSTed to `/v1/traces`.
    OtlpJson,
    /// The same request in protobuf, which is smaller and faster to make and to read.
    OtlpProtobuf,
}
