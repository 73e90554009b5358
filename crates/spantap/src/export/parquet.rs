//! A table of the spans in Parquet, for DuckDB, pandas and others that read columns. `docs/parquet.md` defines its columns.
//!
//! Parquet writes the columns of many rows one after the other, so that they wait in memory, and has its index at the end. If the
//! output is a file, the rows are written to it; for a pipe, or for two outputs, to a temporary file that is copied.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::span::attributes::{count, find, find_text};
use crate::trace::{Breakdown, EncodedSpan, Trace, TraceSpan};
use crate::view::{attributes, kind_name};

/// The version of the columns. `docs/parquet.md` says what stays as it is with the same one.
const VERSION: &str = "1";

const CANT_WRITE: &str = "can't write the table";

/// A group of rows is written when it has this many, or this many bytes of text.
const MAX_ROWS: usize = 100_000;
const MAX_BYTES: usize = 64 << 20;

const SCHEMA: &str = "message span {
    required binary trace_id (STRING);
    required binary span_id (STRING);
    optional binary parent_span_id (STRING);
    required binary service (STRING);
    required binary name (STRING);
    optional binary kind (STRING);
    required boolean kernel;
    required int64 start_time (TIMESTAMP(NANOS, true));
    required int64 duration_ns;
    optional int64 self_ns;
    optional int64 busy_ns;
    required boolean error;
    optional binary status_message (STRING);
    optional int64 thread_id;
    optional binary thread_name (STRING);
    required binary attributes (JSON);
    required binary resource (JSON);
}";

/// The file that is made.
pub(super) struct Parquet {
    writer: Option<SerializedFileWriter<File>>,
    /// `None` if it is written to the output.
    temporary: Option<File>,
    rows: Rows,
}

/// The columns of the rows that are not written, in the order of the schema.
#[derive(Default)]
struct Rows {
    trace_id: Vec<ByteArray>,
    span_id: Vec<ByteArray>,
    parent_span_id: Vec<Option<ByteArray>>,
    service: Vec<ByteArray>,
    name: Vec<ByteArray>,
    kind: Vec<Option<ByteArray>>,
    kernel: Vec<bool>,
    start_time: Vec<i64>,
    duration_ns: Vec<i64>,
    self_ns: Vec<Option<i64>>,
    busy_ns: Vec<Option<i64>>,
    error: Vec<bool>,
    status_message: Vec<Option<ByteArray>>,
    thread_id: Vec<Option<i64>>,
    thread_name: Vec<Option<ByteArray>>,
    attributes: Vec<ByteArray>,
    resource: Vec<ByteArray>,
    bytes: usize,
}

impl Parquet {
    /// For this file, which is the only output, or for any others.
    pub(super) fn new(output: Option<File>) -> Result<Self> {
        let context = "can't make a temporary file; TMPDIR chooses the folder";
        let (file, temporary) = match output {
            Some(file) => (file, None),
            None => {
                let file = tempfile::tempfile().context(context)?;
                (file.try_clone().context(context)?, Some(file))
            }
        };
        let version = KeyValue::new("spantap.version".to_owned(), VERSION.to_owned());
        let properties = WriterProperties::builder()
            .set_created_by(format!("spantap version {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(vec![version]));
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
        Ok(Self { writer: Some(writer), temporary, rows: Rows::default() })
    }

    /// Adds the spans of a trace, with where the time of each goes.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>, breakdowns: &[Option<Breakdown>]) -> Result<()> {
        for (span, breakdown) in trace.spans.iter().zip(breakdowns) {
            if let Some(decoded) = span.decode() {
                self.rows.add(trace.id, span, &decoded, breakdown.as_ref());
            }
            if self.rows.name.len() >= MAX_ROWS || self.rows.bytes >= MAX_BYTES {
                self.write_rows()?;
            }
        }
        Ok(())
    }

    fn write_rows(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let Some(writer) = self.writer.as_mut().filter(|_| !rows.name.is_empty()) else { return Ok(()) };
        let mut group = writer.next_row_group()?;
        rows.write(&mut group).and_then(|()| group.close()).context(CANT_WRITE)?;
        Ok(())
    }

    /// No span comes any more.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.write_rows()?;
        if let Some(writer) = self.writer.take() {
            writer.close().context(CANT_WRITE)?;
        }
        Ok(())
    }

    /// Copies the finished file, if it is not the output's.
    pub(super) fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let Some(file) = &mut self.temporary else { return Ok(()) };
        file.rewind()?;
        io::copy(file, out).map(drop)
    }
}

impl Rows {
    fn add(&mut self, trace_id: u128, encoded: &EncodedSpan, of: &TraceSpan, breakdown: Option<&Breakdown>) {
        let TraceSpan { process, span } = of;
        let number = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let counted = |key| find(&span.attributes, key).and_then(count).map(number);
        let json = |of: &[_]| Value::Object(attributes(of)).to_string();
        let (of_span, resource) = (json(&span.attributes), json(&process.resource.attributes));
        // Roughly; names and ids are in it twice.
        self.bytes += 300 + 2 * span.name.len() + of_span.len() + resource.len();
        self.trace_id.push(text(&format!("{trace_id:032x}")));
        self.span_id.push(text(&format!("{:016x}", encoded.span_id)));
        self.parent_span_id.push(encoded.parent_id.map(|id| text(&format!("{id:016x}"))));
        self.service.push(text(&process.service));
        self.name.push(text(&span.name));
        self.kind.push(kind_name(span).map(text));
        self.kernel.push(encoded.is_kernel);
        self.start_time.push(number(encoded.times.0));
        self.duration_ns.push(number(encoded.duration_ns()));
        self.self_ns.push(breakdown.and_then(Breakdown::self_ns).map(number));
        self.busy_ns.push(counted("busy_ns"));
        self.error.push(encoded.is_error);
        let message = span.status.as_ref().map(|status| &*status.message);
        self.status_message.push(message.filter(|message| !message.is_empty()).map(text));
        self.thread_id.push(counted("thread.id"));
        self.thread_name.push(find_text(&span.attributes, "thread.name").map(text));
        self.attributes.push(text(&of_span));
        self.resource.push(text(&resource));
    }

    fn write(self, group: &mut SerializedRowGroupWriter<'_, File>) -> Result<(), ParquetError> {
        required::<ByteArrayType>(group, &self.trace_id)?;
        required::<ByteArrayType>(group, &self.span_id)?;
        optional::<ByteArrayType>(group, self.parent_span_id)?;
        required::<ByteArrayType>(group, &self.service)?;
        required::<ByteArrayType>(group, &self.name)?;
        optional::<ByteArrayType>(group, self.kind)?;
        required::<BoolType>(group, &self.kernel)?;
        required::<Int64Type>(group, &self.start_time)?;
        required::<Int64Type>(group, &self.duration_ns)?;
        optional::<Int64Type>(group, self.self_ns)?;
        optional::<Int64Type>(group, self.busy_ns)?;
        required::<BoolType>(group, &self.error)?;
        optional::<ByteArrayType>(group, self.status_message)?;
        optional::<Int64Type>(group, self.thread_id)?;
        optional::<ByteArrayType>(group, self.thread_name)?;
        required::<ByteArrayType>(group, &self.attributes)?;
        required::<ByteArrayType>(group, &self.resource)
    }
}

fn text(text: &str) -> ByteArray {
    text.as_bytes().to_vec().into()
}

fn required<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    write::<T>(group, values, None)
}

fn optional<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: Vec<Option<T::T>>,
) -> Result<(), ParquetError> {
    // The level of a value that is there is 1.
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    write::<T>(group, &values, Some(&levels))
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has fewer columns".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}
