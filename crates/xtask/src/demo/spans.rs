//! Reads the spans that spantap forwarded to a file as OTLP JSON, one per line.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The name of the span that reports losses.
const DROPPED: &str = "tracing_usdt.dropped";

/// OTLP's `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

pub(crate) struct Span {
    trace: String,
    id: String,
    /// Empty for a root.
    parent: String,
    pub(crate) name: String,
    pub(crate) duration_us: u64,
    pub(crate) is_error: bool,
}

impl Span {
    fn from_line(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let span = &line["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let text = |key: &str| Some(span[key].as_str()?.to_owned());
        let ns = |key: &str| span[key].as_str()?.parse::<u64>().ok();
        Some(Self {
            trace: text("traceId")?,
            id: text("spanId")?,
            parent: text("parentSpanId").unwrap_or_default(),
            name: text("name")?,
            duration_us: (ns("endTimeUnixNano")? - ns("startTimeUnixNano")?) / 1000,
            is_error: span["status"]["code"] == ERROR,
        })
    }
}

/// All spans except those that report losses.
pub(crate) fn read(file: &Path) -> Result<Vec<Span>> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("spantap has not written its spans to {}", file.display()))?;
    let span = |line: &str| Span::from_line(line).with_context(|| format!("not a span in OTLP JSON: {line}"));
    let spans: Vec<Span> = text.lines().map(span).collect::<Result<_>>()?;
    Ok(spans.into_iter().filter(|span| span.name != DROPPED).collect())
}

/// The number of traces, and the number of complete ones: those with a root and all parents.
pub(crate) fn traces(spans: &[Span]) -> (usize, usize) {
    let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in spans {
        traces.entry(&span.trace).or_default().push(span);
    }
    let is_complete = |spans: &&Vec<&Span>| {
        let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
        let mut roots = spans.iter().filter(|span| span.parent.is_empty());
        roots.next().is_some()
            && spans.iter().all(|span| span.parent.is_empty() || ids.contains(span.parent.as_str()))
    };
    (traces.len(), traces.values().filter(is_complete).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(trace: &str, id: &str, parent: &str, name: &str) -> String {
        let span = format!(
            r#"{{"traceId":"{trace}","spanId":"{id}","parentSpanId":"{parent}","name":"{name}",
            "startTimeUnixNano":"1000","endTimeUnixNano":"8000","status":{{"code":2}}}}"#
        );
        let spans = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
        spans.replace('\n', "") + "\n"
    }

    #[test]
    fn reads_spans_and_counts_traces() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("spans.jsonl");
        let lines = [line("a", "1", "", "root"), line("a", "2", "1", "child"), line("b", "3", "9", "orphan")]
            .concat();
        fs::write(&file, lines + &line("c", "4", "", DROPPED))?;
        let spans = read(&file)?;
        assert_eq!((spans.len(), spans[0].duration_us, spans[0].is_error), (3, 7, true));
        assert_eq!(traces(&spans), (2, 1));
        fs::write(&file, "{}\n")?;
        assert!(read(&file).is_err_and(|error| error.to_string().contains("{}")));
        Ok(())
    }
}
