#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::process::{Child, Command};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn process(pid: u32) -> Arc<Process> {
    let sender = Sender { pid, uid: 0, gid: 0 };
    Arc::new(Process { sender, service: "shop".into(), resource: Default::default() })
}

/// A span that is open for so many seconds.
fn span(id: u64, seconds: u64) -> Span {
    Span {
        trace_id: 7_u128.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        start_time_unix_nano: 1000 * SECOND - seconds * SECOND,
        end_time_unix_nano: 1000 * SECOND,
        ..Span::default()
    }
}

fn report(spans: &[(u64, u64)], count: u64) -> OpenReport {
    let spans = spans.iter().map(|(id, seconds)| span(*id, *seconds)).collect();
    OpenReport { at_ns: 1000 * SECOND, threshold_ns: SECOND, count, spans }
}

fn ids(open: &[OpenSpan]) -> Vec<u64> {
    open.iter().map(|open| u64::from_be_bytes((&*open.span.span_id).try_into().unwrap())).collect()
}

fn started() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

#[test]
fn a_report_replaces_the_report_before_it() {
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    assert!(open.is_empty() && open.count().is_none());
    open.report(&own, 1, report(&[(1, 2), (2, 5)], 2));
    // Another layer of the process.
    open.report(&own, 2, report(&[(3, 3)], 40));
    assert_eq!(ids(&open.list()), [2, 3, 1], "those that are open for longest first");
    assert!(!open.is_empty());
    assert_eq!(open.count(), Some(OpenCount { spans: 42, threshold_ns: SECOND, has_more: false }));
    let now = Instant::now() + Duration::from_secs(10);
    let ages: Vec<u64> = open.list().iter().map(|open| open.age_ns(now) / SECOND).collect();
    assert_eq!(ages, [15, 13, 12], "they go on");
    open.report(&own, 1, report(&[(2, 6)], 1));
    assert_eq!(ids(&open.list()), [2, 3]);
    open.report(&own, 1, report(&[], 0));
    open.report(&own, 2, report(&[], 0));
    assert!(open.is_empty() && open.list().is_empty() && open.count().is_none());
}

#[test]
fn a_span_that_has_closed_is_not_open_any_more() {
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    open.report(&own, 1, report(&[(1, 2), (2, 5)], 3));
    open.closed(Sender { pid: 1, uid: 0, gid: 0 }, [1, 2].into_iter());
    assert_eq!(open.list().len(), 2, "a span of another process");
    open.closed(own.sender, [7, 2].into_iter());
    assert_eq!((ids(&open.list()), open.count().unwrap().spans), (vec![1], 2));
    open.closed(own.sender, [1].into_iter());
    assert_eq!(open.count().unwrap().spans, 1, "one that the report had no room for");
    open.report(&own, 1, report(&[(3, 1)], 1));
    open.closed(own.sender, [3].into_iter());
    assert!(open.is_empty());
}

#[test]
fn each_span_is_new_once() {
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    open.report(&own, 1, report(&[(1, 2), (2, 5), (3, 1), (4, 1)], 4));
    let (new, others) = open.take_new(2, |_| true);
    assert_eq!((ids(&new), others), (vec![2, 1], 2));
    open.report(&own, 1, report(&[(1, 3), (2, 6), (3, 2), (4, 2), (5, 1)], 5));
    let (new, others) = open.take_new(2, |_| true);
    assert_eq!((ids(&new), others), (vec![5], 0));
}

#[test]
fn only_chosen_spans_are_new_or_counted_as_others() {
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    open.report(&own, 1, report(&[(1, 9), (2, 8), (3, 7), (4, 6), (5, 5)], 5));
    let is_chosen = |open: &OpenSpan| ids(std::slice::from_ref(open))[0] >= 3;
    let (new, others) = open.take_new(2, is_chosen);
    assert_eq!((ids(&new), others), (vec![3, 4], 1));
}

/// A report has no room for all, and nobody says which of the others have closed.
#[test]
fn a_process_that_closes_all_listed_spans_and_ends_leaves_none() {
    let (open, mut child) = (OpenSpans::default(), started());
    let process = process(child.id());
    open.report(&process, 1, report(&[(1, 2), (2, 5)], 920));
    open.closed(process.sender, [1, 2].into_iter());
    assert_eq!(open.count().unwrap().spans, 918, "until it ends");
    // A report that lists none.
    open.report(&process, 2, report(&[], 7));
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = open.take_ended(true);
    assert_eq!((ended.len(), ended[0].count), (1, 7));
    assert!(open.is_empty());
}

#[test]
fn spans_of_a_silent_sender_are_not_shown_until_it_ends() {
    let (open, mut child) = (OpenSpans::default(), started());
    let process = process(child.id());
    open.report(&process, 1, report(&[(1, 2)], 1));
    make_silent(&open);
    assert!(open.list().is_empty() && open.count().is_none());
    open.report(&process, 1, report(&[(1, 9)], 1));
    assert_eq!(open.list().len(), 1, "it goes on");
    make_silent(&open);
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = open.take_ended(true);
    assert_eq!(ids(&ended[0].spans), [1]);
    assert!(ended[0].silent > SILENT);
}

/// As if the last reports had come long ago.
fn make_silent(open: &OpenSpans) {
    let past = Instant::now().checked_sub(2 * SILENT).expect("the machine runs for some seconds");
    open.reports().last.values_mut().for_each(|last| last.arrived = past);
}

#[test]
fn a_process_that_has_ended_leaves_its_open_spans_once() {
    let (open, mut child) = (OpenSpans::default(), started());
    open.report(&process(child.id()), 1, report(&[(1, 2), (2, 5)], 3));
    open.report(&process(std::process::id()), 1, report(&[(3, 2)], 1));
    assert!(open.take_ended(true).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    // What it sent before its end may still be on the way.
    assert!(open.take_ended(false).is_empty());
    std::thread::sleep(GRACE);
    assert!(open.take_ended(false).is_empty(), "the source has not caught up");
    open.set_caught_up(true);
    let ended = open.take_ended(false);
    assert_eq!((ended.len(), ids(&ended[0].spans), ended[0].count), (1, vec![2, 1], 3));
    assert!(ended[0].silent >= GRACE);
    let traces = ended[0].traces();
    assert_eq!(
        (traces.len(), traces[0].spans.len(), traces[0].shown),
        (1, 2, crate::trace::Shown::ProcessEnded)
    );
    assert!(open.take_ended(true).is_empty());
    assert_eq!(ids(&open.list()), [3]);
}

#[test]
fn a_process_that_executes_another_program_leaves_its_open_spans() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let script = "echo; read line; exec sh -c 'echo; read line'";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let open = OpenSpans::default();
    open.report(&process(shell.id()), 1, report(&[(1, 2)], 1));
    assert!(open.take_ended(true).is_empty());
    writeln!(shell.stdin.as_mut().unwrap()).unwrap();
    lines.next().unwrap().unwrap();
    assert_eq!(open.take_ended(true).len(), 1);
    shell.kill().unwrap();
    shell.wait().unwrap();
}

#[test]
fn memory_is_bounded_and_what_is_left_out_still_counts() {
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    let large = |id| {
        let mut report = report(&[(id, 2)], 1);
        report.spans[0].name = "x".repeat(200 << 10);
        report
    };
    for sender in 0..MAX_REPORTS as u64 + 50 {
        open.report(&own, sender, large(sender));
    }
    let count = open.count().unwrap();
    assert_eq!((count.spans, count.has_more), (MAX_REPORTS as u64, true));
    assert!(open.list().len() <= MAX_BYTES / (200 << 10));
    assert!(open.reports().last.contains_key(&(own.sender, 0)), "those that came first stay");
    // A silent sender makes room for another.
    make_silent(&open);
    open.report(&own, 1000, large(1000));
    assert_eq!(open.count().unwrap().spans, 1);
    assert_eq!(open.reports().last.len(), MAX_REPORTS);
}

#[test]
fn the_memory_of_decoded_spans_is_bounded() {
    use opentelemetry_proto::tonic::common::v1::KeyValue;
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    for sender in 0..100 {
        let mut report = report(&[(sender, 2)], 1);
        // Two bytes each, encoded.
        report.spans[0].attributes = vec![KeyValue::default(); 20_000];
        open.report(&own, sender, report);
    }
    let kept = open.list().len();
    assert!((1..=MAX_BYTES / (20_000 * size_of::<KeyValue>())).contains(&kept), "{kept} of 100");
}

#[test]
fn numbers_that_senders_choose_do_not_overflow() {
    let (open, own) = (OpenSpans::default(), process(std::process::id()));
    open.report(&own, 1, report(&[], u64::MAX));
    open.report(&own, 2, report(&[], 7));
    assert_eq!(open.count().unwrap().spans, u64::MAX);
}
