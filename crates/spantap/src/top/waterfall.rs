//! One trace, as it is looked at: which spans are open, and which one is selected.

use std::collections::HashSet;
use std::sync::Arc;

use super::list::Place;
use super::model::Kept;
use crate::text::on_one_line;
use crate::trace::tree::{self, rows};
use crate::trace::{Trace, critical_path, self_times_ns};
use crate::view::guide::Guides;
use crate::view::{self, Detail};

/// The columns of the lines that lead to a span.
const GUIDE_COLUMNS: usize = 32;

/// A trace that is looked at.
#[derive(Debug)]
pub(super) struct Waterfall {
    pub(super) kept: Arc<Kept>,
    trace: Trace,
    pub(super) spans: Vec<Span>,
    closed: HashSet<usize>,
    /// The spans that are not below a closed one.
    pub(super) shown: Vec<usize>,
    pub(super) place: Place<usize>,
    /// The first line of the details on the screen.
    pub(super) details_from: usize,
    /// Whether the keys move the details.
    pub(super) is_in_details: bool,
    /// Those of a span: to find its row takes long in a large trace.
    details: (Option<usize>, Vec<Detail>),
}

/// A span of the trace, in the order of the tree.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) name: String,
    /// The lines that lead to it.
    pub(super) guide: String,
    pub(super) times: (u64, u64),
    pub(super) self_ns: u64,
    pub(super) is_error: bool,
    pub(super) is_kernel: bool,
    /// When it is on the critical path.
    pub(super) critical: Vec<(u64, u64)>,
    parent: Option<usize>,
    pub(super) has_children: bool,
}

impl Waterfall {
    pub(super) fn new(kept: Arc<Kept>) -> Self {
        let trace = kept.trace.decode();
        let kernel: HashSet<Vec<u8>> = kept
            .trace
            .spans
            .iter()
            .filter(|span| span.is_kernel)
            .map(|span| span.span_id.to_be_bytes().to_vec())
            .collect();
        let rows = rows(&trace);
        let guides = Guides::new(&rows, GUIDE_COLUMNS);
        let self_ns = self_times_ns(&rows);
        let span = |(index, (row, self_ns)): (usize, (&tree::Row<'_>, u64))| {
            let span = &row.span.span;
            let name = if span.name.is_empty() { "(no name)".to_owned() } else { on_one_line(&span.name) };
            Span {
                service: row.span.process.service.clone(),
                name,
                guide: guides.span(index),
                times: (span.start_time_unix_nano, span.end_time_unix_nano),
                self_ns,
                is_error: crate::span::is_error(span),
                is_kernel: kernel.contains(&span.span_id),
                critical: Vec::new(),
                parent: match row.place {
                    tree::Place::Child(parent) => Some(parent),
                    _ => None,
                },
                has_children: row.has_children,
            }
        };
        let mut spans: Vec<Span> = rows.iter().zip(self_ns).enumerate().map(span).collect();
        for segment in critical_path(&rows) {
            if let Some(span) = spans.get_mut(segment.row) {
                span.critical.push((segment.start_ns, segment.end_ns));
            }
        }
        let shown = (0..spans.len()).collect();
        Self {
            kept,
            trace,
            spans,
            closed: HashSet::new(),
            shown,
            place: Place::default(),
            details_from: 0,
            is_in_details: false,
            details: (None, Vec::new()),
        }
    }

    /// The selected span.
    pub(super) fn selected(&self) -> Option<usize> {
        self.shown.get(self.place.selected()).copied()
    }

    /// All that is known of the selected span.
    pub(super) fn details(&mut self) -> &[Detail] {
        let Some(selected) = self.selected() else { return &[] };
        if self.details.0 != Some(selected) {
            self.details = (Some(selected), view::details(&rows(&self.trace), selected));
        }
        &self.details.1
    }

    pub(super) fn move_by(&mut self, lines: isize) {
        if self.is_in_details {
            self.details_from = self.details_from.saturating_add_signed(lines);
        } else {
            self.place.move_by(lines, &self.shown);
            self.details_from = 0;
        }
    }

    pub(super) fn select(&mut self, index: usize) {
        self.place.select(index, &self.shown);
        self.details_from = 0;
    }

    pub(super) fn is_closed(&self, span: usize) -> bool {
        self.closed.contains(&span)
    }

    /// Hides what is below the selected span; if nothing is shown below it, selects its parent.
    pub(super) fn close(&mut self) {
        let Some(selected) = self.selected() else { return };
        let Some(span) = self.spans.get(selected) else { return };
        if span.has_children && self.closed.insert(selected) {
            self.find_shown();
        } else if let Some(place) =
            span.parent.and_then(|of| self.shown.iter().position(|shown| *shown == of))
        {
            self.select(place);
        }
    }

    /// Shows what is below the selected span.
    pub(super) fn open(&mut self) {
        if self.selected().is_some_and(|selected| self.closed.remove(&selected)) {
            self.find_shown();
        }
    }

    fn find_shown(&mut self) {
        let mut hidden = vec![false; self.spans.len()];
        self.shown.clear();
        for (index, span) in self.spans.iter().enumerate() {
            // A parent comes before its children.
            hidden[index] = span.parent.is_some_and(|parent| hidden[parent] || self.closed.contains(&parent));
            if !hidden[index] {
                self.shown.push(index);
            }
        }
        self.place.follow(&self.shown);
    }
}
