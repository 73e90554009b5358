//! Notes on what is odd about a span, for the lines below it.

use super::bar::Interval;
use super::service::is_same;
use crate::span::account::PARTIAL;
use crate::span::attributes::{ODD, find_text};
use crate::text::readable;
use crate::trace::TraceSpan;
use crate::trace::tree::{Place, Row};

/// A child of the same process that starts this long after its parent's end is odd.
const LONG_NS: u64 = 60_000_000_000;

/// Notes on the span's place in the tree, its account and its times.
pub(super) fn notes(row: &Row<'_>, parent: Option<&TraceSpan>) -> Vec<String> {
    let mut notes = Vec::new();
    let parent_id = || const_hex::encode(&row.span.span.parent_span_id);
    match row.place {
        Place::ParentMissing => notes.push(format!("parent missing: {}", parent_id())),
        Place::Circle => notes.push(format!("its parent {} is also its descendant", parent_id())),
        _ => {}
    }
    if let Some(why) = find_text(&row.span.span.attributes, PARTIAL) {
        notes.push(format!("incomplete: {why}"));
    }
    if let Some(odd) = find_text(&row.span.span.attributes, ODD) {
        notes.push(odd.to_owned());
    }
    if let Some(parent) = parent {
        let (parents, own) = (Interval::of(&parent.span), Interval::of(&row.span.span));
        let is_other = !is_same(&parent.process, &row.span.process);
        let cause = if is_other { ": clocks differ" } else { ", as if the clock had been set back" };
        if let Some(early @ 1..) = parents.start_ns.checked_sub(own.start_ns) {
            notes.push(format!("starts {} before its parent{cause}", readable(early)));
        }
        let later = |ns: u64| ns.checked_sub(parents.end_ns).filter(|late| *late > 0);
        // In the same process, a task may go on after its parent. Only a long gap shows that the clock was set forward.
        match (later(own.start_ns), later(own.end_ns)) {
            (Some(late), _) if is_other || late >= LONG_NS => {
                notes.push(format!("starts {} after its parent ended", readable(late)));
            }
            (None, Some(late)) if is_other => notes.push(format!("ends {} after its parent", readable(late))),
            _ => {}
        }
    }
    notes
}
