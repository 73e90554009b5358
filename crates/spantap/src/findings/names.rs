//! The services and names of spans, as numbers, and how many spans each had over time.

use std::collections::HashMap;
use std::sync::Arc;

use super::over_time::OverTime;

/// The most pairs of a service and a name.
pub(super) const MAX_NAMES: usize = if cfg!(test) { 50 } else { 4_096 };

/// Longer texts are cut, in bytes.
const MAX_BYTES: usize = 200;

/// The number of a pair of a service and a name.
pub(super) type NameId = u32;

/// A service and a name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) service: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) spans: OverTime,
    /// How long the traces take in which it occurs, and the latest one.
    traces_ns: u64,
    latest: Option<u128>,
}

/// The services and names.
#[derive(Default, Debug)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, HashMap<Arc<str>, NameId>>,
    all: Vec<Named>,
    left_out: u64,
}

impl Names {
    /// The number of the name of a span that began at this time. `None`, and counted, if there is no room for it.
    pub(super) fn of_span(&mut self, service: &str, name: &str, start_ns: u64) -> Option<NameId> {
        let (service, name) = (shortened(service), shortened(name));
        let known = self.ids.get(service).and_then(|names| names.get(name)).copied();
        let id = match known {
            Some(id) => id,
            None if self.all.len() >= MAX_NAMES => {
                self.left_out += 1;
                return None;
            }
            None => {
                let id = self.all.len() as NameId;
                let service: Arc<str> =
                    self.ids.get_key_value(service).map_or_else(|| service.into(), |(of, _)| Arc::clone(of));
                let name: Arc<str> = name.into();
                let spans = OverTime::new(start_ns);
                self.all.push(Named {
                    service: Arc::clone(&service),
                    name: Arc::clone(&name),
                    spans,
                    traces_ns: 0,
                    latest: None,
                });
                self.ids.entry(service).or_default().insert(name, id);
                id
            }
        };
        Some(id)
    }

    /// Counts a span that began at this time.
    pub(super) fn count(&mut self, id: NameId, start_ns: u64) {
        self.all[id as usize].spans.add(start_ns);
    }

    /// It occurs in a trace that takes so long.
    pub(super) fn occurs(&mut self, id: NameId, trace_id: u128, duration_ns: u64) {
        let named = &mut self.all[id as usize];
        if named.latest.replace(trace_id) != Some(trace_id) {
            named.traces_ns = named.traces_ns.saturating_add(duration_ns);
        }
    }

    /// How long the traces take in which there is a span of this name.
    pub(super) fn traces_ns(&self, service: &str, name: &str) -> u64 {
        let id = self.ids.get(service).and_then(|names| names.get(name));
        id.map_or(0, |id| self.all[*id as usize].traces_ns)
    }

    pub(super) fn of(&self, id: NameId) -> &Named {
        &self.all[id as usize]
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// The beginning of a text that may be long.
pub(super) fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_counted_and_long_ones_are_cut() {
        let mut names = Names::default();
        for number in 0..2 * MAX_NAMES {
            assert_eq!(names.of_span("s", &number.to_string(), 0).is_some(), number < MAX_NAMES);
        }
        assert_eq!(names.of_span("s", "7", 0), Some(7));
        names.count(7, 0);
        assert_eq!((names.left_out(), names.of(7).spans.all()), (MAX_NAMES as u64, 1));
        assert_eq!(shortened(&"é".repeat(500)).len(), MAX_BYTES);
    }
}
