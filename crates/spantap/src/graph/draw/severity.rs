//! Classes of edges by their share of errors.

use crate::graph::call_graph::Edge;

/// The share of errors of an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Severity {
    None,
    Few,
    Some,
    Many,
}

impl Severity {
    pub(super) const ALL: [Self; 4] = [Self::None, Self::Few, Self::Some, Self::Many];

    pub(super) fn of(edge: &Edge) -> Self {
        let share = edge.errors as f64 / edge.calls.max(1) as f64;
        match share {
            _ if edge.errors == 0 => Self::None,
            share if share < 0.01 => Self::Few,
            share if share < 0.1 => Self::Some,
            _ => Self::Many,
        }
    }

    /// A colour for a light and one for a dark background. The hues are those of Okabe and Ito, which people who see few
    /// colours can tell apart; they also get lighter or darker from class to class.
    pub(super) fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("#6b7a8c", "#8b9aab"),
            Self::Few => ("#0072b2", "#56b4e9"),
            Self::Some => ("#c77f00", "#f0b53f"),
            Self::Many => ("#c23b00", "#ff7a45"),
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::None => "no errors",
            Self::Few => "below 1 %",
            Self::Some => "below 10 %",
            Self::Many => "10 % or more",
        }
    }
}
