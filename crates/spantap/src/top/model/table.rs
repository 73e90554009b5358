//! The series of all services and names.

use std::collections::HashMap;
use std::sync::Arc;

use super::series::{Figures, Series, Window};
use super::traces::Kept;
use crate::stats::shortened;
use crate::trace::Breakdown;

/// The most series. A series takes about 16 KiB, for durations that differ by a factor of a million.
const MAX_SERIES: usize = 1_000;

/// A series without a span for this long gives its place to a new one, if there is no other.
const IDLE_NS: u64 = 60_000_000_000;

/// How long to wait until the next search for such a series.
const SEARCH_NS: u64 = 1_000_000_000;

/// The series by service and name.
#[derive(Debug)]
pub(super) struct Table {
    /// The place of each series, by service and name.
    places: HashMap<String, HashMap<String, usize>>,
    series: Vec<Named>,
    /// The spans of all others.
    others: Option<Series>,
    searched_ns: u64,
    started_ns: u64,
}

#[derive(Debug)]
struct Named {
    service: Arc<str>,
    name: Arc<str>,
    series: Series,
}

/// A row: a service, a name and their figures.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) of: SeriesName,
    pub(crate) figures: Figures,
}

/// The name of a series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum SeriesName {
    /// The service, and the name of the spans.
    Of(Arc<str>, Arc<str>),
    /// All spans for which there was no room.
    Others,
}

impl Row {
    /// The time of all spans together.
    pub(crate) fn total_ns(&self) -> u64 {
        let total = u128::from(self.figures.average_ns) * u128::from(self.figures.calls);
        u64::try_from(total).unwrap_or(u64::MAX)
    }
}

impl SeriesName {
    /// The name of the spans.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Of(_, name) => name,
            Self::Others => "",
        }
    }
}

impl Table {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { places: HashMap::new(), series: Vec::new(), others: None, searched_ns: 0, started_ns: now_ns }
    }

    pub(super) fn count(&mut self, service: &str, name: &str, duration_ns: u64, is_error: bool, now_ns: u64) {
        let [service, name] = [service, name].map(shortened);
        let place = self.place(service, name).or_else(|| self.add(service, name, now_ns));
        let series = match place.and_then(|place| self.series.get_mut(place)) {
            Some(named) => &mut named.series,
            None => self.others.get_or_insert_with(|| Series::new(now_ns)),
        };
        series.count(duration_ns, is_error, now_ns);
    }

    pub(super) fn add_breakdown(&mut self, service: &str, name: &str, breakdown: &Breakdown, now_ns: u64) {
        match self.known(service, name) {
            Some(series) => series.add_breakdown(breakdown, now_ns),
            None => self.others.iter_mut().for_each(|series| series.add_breakdown(breakdown, now_ns)),
        }
    }

    /// The series, if it has a row of its own.
    pub(super) fn known(&mut self, service: &str, name: &str) -> Option<&mut Series> {
        let place = self.place(shortened(service), shortened(name))?;
        self.series.get_mut(place).map(|named| &mut named.series)
    }

    /// The slowest traces of a series, lately.
    pub(super) fn slowest(&self, of: &SeriesName) -> Vec<Arc<Kept>> {
        let SeriesName::Of(service, name) = of else { return Vec::new() };
        let named = self.place(service, name).and_then(|place| self.series.get(place));
        named.map(|named| named.series.slowest().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn rows(&self, window: Window, now_ns: u64) -> Vec<Row> {
        let known = self.series.iter().map(|Named { service, name, series }| {
            (SeriesName::Of(Arc::clone(service), Arc::clone(name)), series)
        });
        let others = self.others.iter().map(|series| (SeriesName::Others, series));
        let row = |(of, series): (SeriesName, &Series)| {
            Some(Row { of, figures: series.figures(window, self.started_ns, now_ns)? })
        };
        known.chain(others).filter_map(row).collect()
    }

    fn place(&self, service: &str, name: &str) -> Option<usize> {
        self.places.get(service)?.get(name).copied()
    }

    /// Adds a series and returns its place. `None` if there is no room for it.
    fn add(&mut self, service: &str, name: &str, now_ns: u64) -> Option<usize> {
        let new = Named { service: service.into(), name: name.into(), series: Series::new(now_ns) };
        let place = match self.series.len() < MAX_SERIES {
            true => {
                self.series.push(new);
                self.series.len() - 1
            }
            false => {
                let place = self.idle(now_ns)?;
                let idle = std::mem::replace(self.series.get_mut(place)?, new);
                self.places.get_mut(&*idle.service)?.remove(&*idle.name);
                self.places.retain(|_, names| !names.is_empty());
                let others = self.others.get_or_insert_with(|| Series::new(now_ns));
                others.absorb(&idle.series, now_ns);
                place
            }
        };
        self.places.entry(service.to_owned()).or_default().insert(name.to_owned(), place);
        Some(place)
    }

    /// The series that had no span for the longest time, if that is long.
    fn idle(&mut self, now_ns: u64) -> Option<usize> {
        // Where there is none, there is also none for the next span.
        if now_ns.saturating_sub(self.searched_ns) < SEARCH_NS {
            return None;
        }
        let all = self.series.iter().enumerate();
        let (place, named) = all.min_by_key(|(_, named)| named.series.last_ns)?;
        let is_idle = now_ns.saturating_sub(named.series.last_ns) >= IDLE_NS;
        if !is_idle {
            self.searched_ns = now_ns;
        }
        is_idle.then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn names(table: &Table, now_ns: u64) -> Vec<(SeriesName, u64)> {
        let mut rows: Vec<_> =
            table.rows(Window::All, now_ns).into_iter().map(|row| (row.of, row.figures.calls)).collect();
        rows.sort();
        rows
    }

    #[test]
    fn a_service_and_a_name_are_not_mixed_up() {
        let mut table = Table::new(0);
        for (service, name) in [("shop", "GET"), ("sho", "pGET"), ("shop", "GET"), ("", "")] {
            table.count(service, name, 1, false, 0);
        }
        let of = |service: &str, name: &str| SeriesName::Of(service.into(), name.into());
        assert_eq!(names(&table, 0), [(of("", ""), 1), (of("sho", "pGET"), 1), (of("shop", "GET"), 2)]);
    }

    #[test]
    fn what_has_no_row_is_counted_with_the_others_and_idle_rows_make_room() {
        let mut table = Table::new(0);
        let count =
            |table: &mut Table, name: usize, now_ns| table.count("shop", &name.to_string(), 1, true, now_ns);
        for name in 0..MAX_SERIES + 7 {
            count(&mut table, name, SECOND_NS);
        }
        let rows = names(&table, SECOND_NS);
        assert_eq!(rows.len(), MAX_SERIES + 1);
        assert!(rows.contains(&(SeriesName::Others, 7)));
        // All others go on, and one has been idle.
        for name in 1..MAX_SERIES {
            count(&mut table, name, SECOND_NS + IDLE_NS);
        }
        for _ in 0..2 {
            count(&mut table, 5_000, SECOND_NS + IDLE_NS);
        }
        let rows = names(&table, SECOND_NS + IDLE_NS);
        assert_eq!(rows.len(), MAX_SERIES + 1);
        assert!(rows.contains(&(SeriesName::Of("shop".into(), "5000".into()), 2)));
        assert!(rows.contains(&(SeriesName::Others, 8)), "the idle one's span is not lost");
        let all: u64 = rows.iter().map(|(_, calls)| calls).sum();
        assert_eq!(all, 2 * MAX_SERIES as u64 + 8);
    }
}
