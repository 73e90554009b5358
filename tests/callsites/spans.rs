//! Spans that no subscriber wants, beside those that one wants.

use std::process::{Command, Stdio};

use e2e::{BPFTRACE, Bpftrace, Build, Collector, Fixture, Linkage, Span, need, text};

use super::{PROVIDER, event, print, start};

/// What the fixture writes to stderr, and the spans that it sends, while it runs `nest`. With `script`, bpftrace is
/// attached, and what it prints is returned too.
fn nest(stack: &str, script: Option<&str>) -> (String, Vec<Span>, Vec<String>) {
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let stderr = tempfile::NamedTempFile::new().unwrap();
    let bpftrace =
        script.map(|script| Bpftrace::attach(&script.replace("PATH", &path.display().to_string()), None));
    let mut command = Command::new(&path);
    command.env("FIXTURE_STACK", stack).stderr(Stdio::from(stderr.reopen().unwrap()));
    let mut fixture = Fixture::spawn(&mut command, Some(collector.path()));
    assert_eq!(fixture.run("nest"), "current: None");
    fixture.end();
    let hits = bpftrace.map(Bpftrace::end).unwrap_or_default();
    (std::fs::read_to_string(stderr.path()).unwrap(), collector.spans(), hits)
}

/// All callsites of `nest`.
fn all(path: &str) -> String {
    ["kept", "row", "alone", "request", "query", "beside", "explicit"]
        .map(|name| format!("usdt:{path}:{PROVIDER}:{name} {{ @_ = count(); }}\n"))
        .concat()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| text(span, "name") == name);
    let span = named.next().unwrap_or_else(|| panic!("no span {name:?} in {spans:?}"));
    assert!(named.next().is_none(), "several spans {name:?}");
    span
}

fn parent<'a>(spans: &'a [Span], name: &str) -> Option<&'a str> {
    let parent = named(spans, name).get("parentId")?.as_str().unwrap();
    Some(spans.iter().find(|span| text(span, "id") == parent).map_or("unknown", |span| text(span, "name")))
}

/// With filters of `info`: the spans of level debug exist for their probes alone.
#[test]
fn a_span_that_no_subscriber_wants_gets_ids_parent_and_trace_like_any_other() {
    if !need(&BPFTRACE) {
        return;
    }
    let (quiet, sent, _) = nest("info", None);
    let names: Vec<&str> = sent.iter().map(|span| text(span, "name")).collect();
    assert_eq!(names, ["query", "beside", "explicit", "request"]);
    assert_eq!(parent(&sent, "query"), Some("request"));

    let (log, spans, _) = nest("info", Some(&all("PATH")));
    assert_eq!(log, quiet, "what a subscriber sees changes because someone looks");
    assert_eq!(spans.len(), 7, "{spans:?}");
    assert_eq!(parent(&spans, "kept"), Some("request"));
    assert_eq!(parent(&spans, "query"), Some("kept"));
    assert_eq!(parent(&spans, "row"), Some("query"));
    assert_eq!(parent(&spans, "beside"), Some("request"));
    assert_eq!(parent(&spans, "explicit"), Some("kept"));
    assert_eq!(parent(&spans, "alone"), None);
    let trace = text(named(&spans, "request"), "traceId");
    for span in spans.iter().filter(|span| text(span, "name") != "alone") {
        assert_eq!(text(span, "traceId"), trace, "{span:?}");
    }
    let kept = named(&spans, "kept");
    assert_eq!(kept["tags"]["n"], "2", "what is recorded later");
    let events: Vec<&str> = kept["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["value"].as_str().unwrap().split(':').next().unwrap())
        .collect();
    assert_eq!(events, ["\"inside\"", "\"told of it\""], "the events in the span");
}

/// Like above, with a subscriber that wants nothing and writes JSON, which panics at a span that it has not seen.
#[test]
fn a_subscriber_at_warn_sees_only_warn() {
    if !need(&BPFTRACE) {
        return;
    }
    let (quiet, sent, _) = nest("warn", None);
    assert_eq!((quiet.lines().count(), sent.len()), (2, 0), "{quiet}");
    let (log, spans, _) = nest("warn", Some(&all("PATH")));
    assert_eq!(log, quiet);
    assert_eq!(spans.len(), 7, "{spans:?}");
    assert_eq!(parent(&spans, "query"), Some("kept"));
}

/// The ids in the probes are those that are sent, also where only some of the callsites are looked at.
#[test]
fn the_probes_have_the_ids_of_the_spans() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = std::path::Path::new("PATH");
    let (inside, deep) = (event("warn", "\"inside\""), event("trace", "\"deep\""));
    let script = [
        print(path, "kept", "%016llx", "arg0"),
        print(path, "kept__exit", "%016llx %d", "arg0, arg1 > 0"),
        print(path, "query", "%016llx", "arg0"),
        print(path, &deep, "%016llx %s", "arg0, str(arg1)"),
        print(path, &inside, "%016llx %s", "arg0, str(arg1)"),
    ]
    .concat();
    for stack in ["info", "warn", "plain"] {
        let (_, spans, hits) = nest(stack, Some(&script));
        let id = |name: &str| text(named(&spans, name), "id").to_owned();
        // Without a look at it, `row` is a span only where a subscriber wants it.
        let current = if stack == "plain" { id("row") } else { id("query") };
        let expected = [
            format!("kept {}", id("kept")),
            format!("{inside} {} inside", id("kept")),
            format!("query {}", id("query")),
            format!("{deep} {current} deep"),
            format!("kept__exit {} 1", id("kept")),
        ];
        assert_eq!(hits, expected, "{stack}");
    }
}

/// A subscriber may have to send something when it is dropped.
#[test]
fn a_look_does_not_keep_a_subscriber() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let script = print(&path, "brief", "%d", "arg1") + &print(&path, "brief__exit", "%d", "arg0");
    let bpftrace = Bpftrace::attach(&script, None);
    let mut fixture = start(&path, "none");
    assert_eq!(fixture.run("scoped"), "dropped");
    fixture.end();
    let expected = [0, 1, 2].map(|n| [format!("brief {n}"), "brief__exit 0".to_owned()]).concat();
    assert_eq!(bpftrace.end(), expected);
}

#[test]
fn a_span_from_before_the_subscriber_is_no_parent_and_does_no_harm() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let bpftrace = Bpftrace::attach(&print(&path, "brief", "%d", "arg1"), None);
    let mut fixture = start(&path, "none");
    assert_eq!(fixture.run("late"), "survived");
    fixture.end();
    assert_eq!(bpftrace.end(), ["brief 1", "brief 2"]);
}

/// A filter of the layer itself hides spans from it that another layer wants: each has an id of its own all the same, and
/// none of another span.
#[test]
fn spans_that_the_layers_own_filter_hides_have_ids_of_their_own() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = std::path::Path::new("PATH");
    let script =
        ["request", "kept", "query", "row"].map(|name| print(path, name, "%016llx", "arg0")).concat();
    let (_, spans, hits) = nest("hidden", Some(&script));
    assert!(spans.is_empty(), "{spans:?}");
    let mut ids: Vec<&str> = hits.iter().map(|hit| hit.rsplit(' ').next().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(hits.len() == 4 && ids.len() == 4 && ids[0] != "0".repeat(16), "{hits:?}");
}
