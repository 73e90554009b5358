//! A file of OTLP JSON: the OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".
//!
//! By the specification a line may have many spans. Here it has one, with its resource and scope, so that `grep`
//! and `jq` can select spans. An OpenTelemetry Collector reads the file with its receiver `otlpjsonfile`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};

use super::append::append;
use super::outcome::Outcome;
use crate::capture::Appender;
use crate::encode::{Chunk, write_line};

/// How each line begins.
const LINE_START: &[u8] = br#"{"resourceSpans":"#;

/// A file that spans are appended to.
pub(in crate::sink) struct Jsonl {
    path: PathBuf,
    lines: Arc<Mutex<Appender<Box<File>>>>,
}

impl Jsonl {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let context = || format!("can't open {} to append spans: choose another file", path.display());
        let is_pipe = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
        // Possibly nothing reads the pipe, and its content is lost when the last user closes it.
        ensure!(!is_pipe, "{} is a pipe: choose a file", path.display());
        let lines = Appender::open(path, open).with_context(context)?;
        Ok(Self { path: path.to_owned(), lines: Arc::new(Mutex::new(lines)) })
    }

    /// Encodes the lines. Also returns the number of spans that are left out because their chunk can't be decoded.
    pub(super) fn encode(&self, chunks: &[Chunk]) -> (Bytes, u64) {
        let (mut lines, mut unreadable) = (Vec::new(), 0);
        for chunk in chunks {
            let before = lines.len();
            let written =
                chunk.decode().map_err(io::Error::other).and_then(|spans| add_lines(spans, &mut lines));
            if written.is_err() {
                lines.truncate(before);
                unreadable += u64::from(chunk.spans);
            }
        }
        (lines.into(), unreadable)
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        append(&self.path, &self.lines, body, Appender::append).await
    }
}

fn open(path: &Path) -> io::Result<Box<File>> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    end_last_line(&file)?;
    Ok(Box::new(file))
}

/// Handles a partial last line, such as a killed program leaves. A line of ours is removed, because its spans are not
/// acknowledged. Anything else is ended with a newline.
fn end_last_line(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(1 << 20);
    let mut tail = vec![0; (length - start) as usize];
    file.read_exact_at(&mut tail, start)?;
    let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let common = last.len().min(LINE_START.len());
    match last.is_empty() {
        true => Ok(()),
        false
            if last.len() < tail.len() + usize::from(start == 0)
                && last[..common] == LINE_START[..common]
                // A whole line may be from another program that doesn't write the last newline.
                && serde_json::from_slice::<serde::de::IgnoredAny>(last).is_err() =>
        {
            file.set_len(length - last.len() as u64)
        }
        false => file.write_all(b"\n"),
    }
}

fn add_lines(spans: ResourceSpans, lines: &mut Vec<u8>) -> io::Result<()> {
    let ResourceSpans { resource, scope_spans, schema_url } = spans;
    let resource = Some(resource.unwrap_or_default());
    for ScopeSpans { scope, spans, schema_url: scope_schema_url } in scope_spans {
        // The repeated parts are moved from line to line, not copied. An empty message, because more readers fail on
        // `null` than on `{}`.
        let one = ScopeSpans {
            scope: Some(scope.unwrap_or_default()),
            spans: Vec::new(),
            schema_url: scope_schema_url,
        };
        let mut line = ResourceSpans {
            resource: resource.clone(),
            scope_spans: vec![one],
            schema_url: schema_url.clone(),
        };
        for mut span in spans {
            span.status.get_or_insert_default();
            line.scope_spans[0].spans = vec![span];
            let data = TracesData { resource_spans: vec![line] };
            write_line(&data, lines)?;
            line = data.resource_spans.into_iter().next().unwrap_or_default();
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;
    use crate::sink::tests::{chunk, numbers};
    use crate::span::attributes::attribute;

    fn read(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let line = |line: &str| {
            let data: TracesData = serde_json::from_str(line).unwrap();
            let numbers = numbers(&data.resource_spans);
            assert_eq!(numbers.len(), 1, "{line}");
            assert!(data.resource_spans[0].resource.is_some());
            numbers[0]
        };
        text.lines().map(line).collect()
    }

    async fn append(sink: &Jsonl, chunks: &[Chunk]) {
        let (body, unreadable) = sink.encode(chunks);
        assert_eq!((sink.send(body).await, unreadable), (Outcome::ACCEPTED, 0));
    }

    #[tokio::test]
    async fn each_line_is_one_complete_span() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        append(&Jsonl::open(&path).unwrap(), &[chunk(0..3), chunk(3..4)]).await;
        append(&Jsonl::open(&path).unwrap(), &[chunk(4..5)]).await;
        assert_eq!(read(&path), [0, 1, 2, 3, 4]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("null"), "{text}");
        // By the specification: camel case, ids in hex, 64 bit numbers as strings.
        let line: serde_json::Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
        let span = &line["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "01".repeat(16));
        assert_eq!(span["spanId"], "0000000000000002");
        assert_eq!(span["startTimeUnixNano"], "1700000000000000002");
        let service = &line["resourceSpans"][0]["resource"]["attributes"][0];
        assert_eq!(
            (&service["key"], &service["value"]["stringValue"]),
            (&"service.name".into(), &"shop".into())
        );
    }

    #[test]
    fn numbers_that_json_does_not_have_are_kept() {
        let number = attribute("number", Value::DoubleValue(f64::NAN));
        let span = Span { attributes: vec![number], ..Span::default() };
        let scope = ScopeSpans { spans: vec![span.clone(), span], ..ScopeSpans::default() };
        let mut lines = Vec::new();
        let spans = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        add_lines(spans, &mut lines).unwrap();
        let text = String::from_utf8(lines).unwrap();
        let kept = |line: &str| line.contains(r#""value":{"doubleValue":"NaN"}"#);
        assert!(text.lines().count() == 2 && text.lines().all(kept), "{text}");
    }

    #[tokio::test]
    async fn a_killed_programs_partial_line_is_removed_at_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        append(&Jsonl::open(&path).unwrap(), &[chunk(0..2)]).await;
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in (0..first).chain(first..whole.len()) {
            std::fs::write(&path, &whole[..length]).unwrap();
            append(&Jsonl::open(&path).unwrap(), &[chunk(7..8)]).await;
            // A line that only lacks its newline may be from another program, and is kept.
            let expected: &[u64] = match length {
                _ if length < first - 1 => &[7],
                _ if length == whole.len() - 1 => &[0, 1, 7],
                _ => &[0, 7],
            };
            assert_eq!(read(&path), expected, "{length}");
        }
    }

    #[tokio::test]
    async fn renamed_or_removed_files_are_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        let sink = Jsonl::open(&path).unwrap();
        append(&sink, &[chunk(0..1)]).await;
        std::fs::rename(&path, folder.path().join("spans.jsonl.1")).unwrap();
        append(&sink, &[chunk(1..2)]).await;
        assert_eq!(read(&path), [1]);
        std::fs::remove_file(&path).unwrap();
        append(&sink, &[chunk(2..4)]).await;
        assert_eq!(read(&path), [2, 3]);
        assert_eq!(read(&folder.path().join("spans.jsonl.1")), [0]);
    }

    #[tokio::test]
    async fn foreign_content_stays_on_its_own_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "precious").unwrap();
        append(&Jsonl::open(&path).unwrap(), &[chunk(0..1)]).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("precious\n{\"resourceSpans\""), "{text}");
    }

    #[tokio::test]
    async fn failed_writes_are_repeated_on_a_new_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        let sink = Jsonl::open(&path).unwrap();
        append(&sink, &[chunk(0..1)]).await;
        // The state after an error whose partial line could not be removed.
        sink.lines.lock().unwrap().tear(b"{\"resourceSp").unwrap();
        append(&sink, &[chunk(1..2)]).await;
        assert_eq!(read(&path), [0, 1]);

        let full = Jsonl::open(Path::new("/dev/full")).unwrap();
        let (body, _) = full.encode(&[chunk(0..1)]);
        let Outcome::Failed { why, .. } = full.send(body).await else { unreachable!() };
        assert!(why.contains("/dev/full: No space left"), "{why}");
    }
}
