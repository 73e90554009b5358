//! A report: one HTML file that needs no server and loads nothing, such as to attach to an issue.
//!
//! It has a table of the spans by service and name (`names`), what is wrong (`crate::findings`), the slowest traces and those with errors (`kept`), the graph of
//! `spantap graph`, and a flame graph of all traces (`flame`). `page.html`, `page.css` and `page.js` are the page.
//!
//! Text from senders is untrusted. It is in a block of JSON, in which `<` is escaped, so that nothing in it ends the block; the script
//! sets it as text only. If that should fail, the page's policy lets no other script run, and loads nothing.

mod flame;
mod kept;
mod names;

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::stacks::Stacks;
use crate::findings::{Finding, Findings, Found, sentence};
use crate::graph::{self, By, CallGraph, Growing};
use crate::text::{counted, grouped, readable, safe, timestamp, write_json};
use crate::trace::{Breakdown, EncodedSpan, Trace};
use kept::{Kept, Shown};
use names::Names;

const PAGE: &str = include_str!("page.html");
const SHEET: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The most edges of the graph, those with the most time.
const MAX_EDGES: usize = 60;

/// What the report has.
pub(super) struct Report {
    title: String,
    names: Names,
    findings: Findings,
    kept: Kept,
    by_service: Growing,
    by_span: Growing,
    spans: u64,
    traces: u64,
    failed: u64,
    /// The first start and the last end.
    times: (u64, u64),
}

impl Report {
    /// A report with this title, the names of the files.
    pub(super) fn new(title: String) -> Self {
        Self {
            title,
            names: Names::default(),
            findings: Findings::default(),
            kept: Kept::default(),
            by_service: Growing::of_whole_traces(By::Service),
            by_span: Growing::of_whole_traces(By::Span),
            spans: 0,
            traces: 0,
            failed: 0,
            times: (u64::MAX, 0),
        }
    }

    /// Adds a trace, with where the time of its spans goes.
    pub(super) fn add(&mut self, trace: &Trace<EncodedSpan>, breakdowns: &[Option<Breakdown>]) {
        let rows = self.names.add(trace, breakdowns);
        self.findings.add(trace, breakdowns);
        self.kept.add(trace, &rows, self.findings.may_show(trace.id));
        if self.kept.has_too_many_examples() {
            self.kept.keep_examples(&self.findings.all());
        }
        for span in &trace.spans {
            self.by_service.add(span);
            self.by_span.add(span);
        }
        self.spans += trace.spans.len() as u64;
        self.traces += 1;
        self.failed += u64::from(trace.has_error());
        let (start, end) = trace.times();
        self.times = (self.times.0.min(start), self.times.1.max(end));
    }

    /// Writes the report. `lacks` says what is not in it for reasons of the files.
    pub(super) fn write(&self, stacks: &Stacks, lacks: &[String], out: &mut dyn Write) -> io::Result<()> {
        let graph = self.graph();
        let (flame, narrow) = flame::tree(stacks);
        let found = self.findings.found();
        let (traces, left_out_traces) = self.kept.chosen(&self.kept.shown_by(&found));

        let mut lacks = lacks.to_vec();
        lacks.extend(self.kept.too_large());
        if left_out_traces > 0 {
            let [all, left_out] = [self.traces, left_out_traces].map(grouped);
            lacks.push(format!(
                "{left_out} of {all} traces are not here: the slowest are, the slowest with errors, and those of findings; everything else counts all traces"
            ));
        }
        lacks.extend(self.kept.shortened(&traces));
        lacks.extend(self.names.left_out());
        lacks.extend(found.lacks.iter().map(|line| format!("findings: {line}")));
        lacks.extend(stacks.left_out());
        if narrow > 0 {
            lacks.push(format!(
                "{} too narrow to be seen",
                counted(narrow, "box of the flame graph is", "boxes of the flame graph are")
            ));
        }
        if graph.uncounted.left_out_edges > 0 {
            lacks.push(format!("the graph has the {MAX_EDGES} edges with the most time"));
        }
        let uncounted = &graph.uncounted;
        for (count, why) in [
            (uncounted.beyond_limit, "there are too many edges"),
            (uncounted.parent_missing, "the parent is missing"),
            (uncounted.repeated, "it is there more than once"),
        ] {
            if count > 0 {
                lacks.push(format!("{} not in the graph: {why}", counted(count, "span is", "spans are")));
            }
        }
        // Nothing in the file can know it, so that nothing in it can claim to be the script.
        let nonce = format!("{:016x}", RandomState::new().build_hasher().finish());
        self.head(&nonce, &lacks, out)?;
        let (before, after) = PAGE.split_once("{{graph}}").unwrap_or((PAGE, ""));
        write!(out, "{before}{}{after}", graph::svg(&graph))?;
        write!(out, "<script type=\"application/json\" id=\"data\">{{\"names\":")?;
        write_escaped(&self.names.rows(), out)?;
        write!(out, ",\"findings\":")?;
        write_escaped(&of_findings(&found, &traces), out)?;
        write!(out, ",\"flame\":")?;
        write_escaped(&flame, out)?;
        write!(out, ",\"traces\":[")?;
        for (place, trace) in traces.iter().enumerate() {
            if place > 0 {
                out.write_all(b",")?;
            }
            out.write_all(&trace.json)?;
        }
        write!(out, "]}}</script>\n<script nonce=\"{nonce}\">\n{SCRIPT}</script>\n</body>\n</html>\n")
    }

    fn head(&self, nonce: &str, lacks: &[String], out: &mut dyn Write) -> io::Result<()> {
        let title = html(&self.title);
        writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
        writeln!(
            out,
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; form-action 'none'; \
             style-src 'unsafe-inline'; script-src 'nonce-{nonce}'\">"
        )?;
        writeln!(out, "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">")?;
        writeln!(out, "<meta name=\"referrer\" content=\"no-referrer\">")?;
        writeln!(
            out,
            "<title>{title} - spantap</title>\n<style>\n{SHEET}</style>\n</head>\n<body>\n<header>"
        )?;
        writeln!(out, "<h1>{title}</h1>\n<p class=\"facts\">{}</p>", self.facts())?;
        if !lacks.is_empty() {
            let items: String = lacks.iter().map(|line| format!("<li>{}</li>", html(line))).collect();
            writeln!(
                out,
                "<details class=\"lack\"><summary>What is not in this report</summary><ul>{items}</ul></details>"
            )?;
        }
        writeln!(out, "</header>")
    }

    fn facts(&self) -> String {
        let bold = |text: String| format!("<b>{}</b>", html(&text));
        let mut facts = vec![
            bold(counted(self.spans, "span", "spans")),
            bold(counted(self.traces, "trace", "traces")),
            bold(self.names.services_counted()),
        ];
        if self.failed > 0 {
            facts.push(format!(
                "<span class=\"bad\">{} with errors</span>",
                counted(self.failed, "trace", "traces")
            ));
        }
        let (start, end) = self.times;
        if start <= end {
            let start_second = start - start % 1_000_000_000;
            facts.push(html(&format!("{}, {}", timestamp(start_second), readable(end - start))));
        }
        facts.push(format!("spantap {}", env!("CARGO_PKG_VERSION")));
        facts.join(" · ")
    }

    /// Calls between services; with a single service, calls between its spans.
    fn graph(&self) -> CallGraph {
        let growing = if self.names.services() > 1 { &self.by_service } else { &self.by_span };
        let mut graph = growing.so_far();
        graph.limit(MAX_EDGES);
        graph
    }
}

/// The findings, each with the first of its traces that is on the page.
fn of_findings(found: &Found, traces: &[&Shown]) -> Value {
    let ids: HashSet<u128> = traces.iter().map(|trace| trace.id).collect();
    let of = |finding: &Finding| {
        let [what, why, cost] = sentence(finding, found);
        let trace = finding.trace_ids.iter().find(|id| ids.contains(id)).map(|id| format!("{id:032x}"));
        json!({
            "title": finding.kind.title(), "service": *finding.service, "what": what, "why": why, "cost": cost, "trace": trace,
        })
    };
    json!({ "list": found.findings.iter().map(of).collect::<Vec<_>>(), "more": found.more })
}

fn write_escaped(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Vec::new();
    write_json(value, &mut line)?;
    escape(&line, out)
}

/// Writes JSON so that it stays JSON in a block of HTML: none of `</script>`, `<!--` and `]]>` is in it.
fn escape(line: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut rest = line;
    // These characters are in strings only.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'<' | b'>' | b'&')) {
        let (before, after) = rest.split_at(at);
        out.write_all(before)?;
        write!(out, "\\u00{:02x}", after[0])?;
        rest = &after[1..];
    }
    out.write_all(rest)
}

/// Text for an element or an attribute in quotes, also safe to look at.
fn html(text: &str) -> String {
    let text = safe(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// An empty list, for a flame graph without a stack.
fn nothing() -> Value {
    json!(null)
}
