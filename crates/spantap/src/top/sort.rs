//! The columns of the tables, and the order by one of them.

use std::cmp::Ordering;

/// A table's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sort<C> {
    pub(super) column: C,
    /// The largest first.
    pub(super) descending: bool,
}

/// A column that a table can be sorted by.
pub(super) trait Column: Copy + PartialEq {
    /// Whether it has names, which are sorted from A to Z, and not figures, of which the largest is first.
    fn is_name(self) -> bool;
    fn title(self) -> &'static str;
}

impl<C: Column> Sort<C> {
    pub(super) fn by(column: C) -> Self {
        Self { column, descending: !column.is_name() }
    }

    pub(super) fn direct(self, order: Ordering) -> Ordering {
        if self.descending { order.reverse() } else { order }
    }

    pub(super) fn invert(&mut self) {
        self.descending = !self.descending;
    }

    /// Sorts by the next of these columns, which are those on the screen.
    pub(super) fn step(&mut self, right: bool, shown: &[C]) {
        let place = shown.iter().position(|column| *column == self.column);
        let next = match (place, right) {
            (None, _) => 0,
            (Some(place), true) => (place + 1).min(shown.len().saturating_sub(1)),
            (Some(place), false) => place.saturating_sub(1),
        };
        if let Some(column) = shown.get(next).filter(|_| place != Some(next)) {
            *self = Self::by(*column);
        }
    }

    /// Sorts by this column; by the other end of it if it is sorted by it.
    pub(super) fn choose(&mut self, column: C) {
        if self.column == column {
            self.invert();
        } else {
            *self = Self::by(column);
        }
    }
}

/// The columns of the table of spans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SeriesColumn {
    Service,
    Name,
    Rate,
    Errors,
    P50,
    P95,
    P99,
    Max,
    Own,
    Total,
}

impl Column for SeriesColumn {
    fn is_name(self) -> bool {
        matches!(self, Self::Service | Self::Name)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Service => "SERVICE",
            Self::Name => "SPAN",
            Self::Rate => "RATE/s",
            Self::Errors => "ERR %",
            Self::P50 => "P50",
            Self::P95 => "P95",
            Self::P99 => "P99",
            Self::Max => "MAX",
            Self::Own => "SELF",
            Self::Total => "TOTAL",
        }
    }
}

/// The columns of the table of traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TraceColumn {
    Began,
    Service,
    Name,
    Duration,
    Spans,
    Errors,
}

impl Column for TraceColumn {
    fn is_name(self) -> bool {
        matches!(self, Self::Service | Self::Name)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Began => "BEGAN",
            Self::Service => "SERVICE",
            Self::Name => "ROOT SPAN",
            Self::Duration => "DURATION",
            Self::Spans => "SPANS",
            Self::Errors => "ERRORS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_goes_by_the_columns_on_the_screen() {
        let shown = [SeriesColumn::Service, SeriesColumn::Rate, SeriesColumn::Max];
        let mut sort = Sort::by(SeriesColumn::Rate);
        assert!(sort.descending);
        sort.step(true, &shown);
        sort.step(true, &shown);
        assert_eq!(sort, Sort { column: SeriesColumn::Max, descending: true });
        sort.step(false, &shown);
        sort.step(false, &shown);
        assert_eq!(sort, Sort { column: SeriesColumn::Service, descending: false });
        sort.choose(SeriesColumn::Service);
        assert!(sort.descending);
        // A column that the narrow screen does not have.
        sort = Sort::by(SeriesColumn::Own);
        sort.step(true, &shown);
        assert_eq!(sort.column, SeriesColumn::Service);
    }
}
