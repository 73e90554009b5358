//! The names of spans, and their numbers, which are the same on both sides.

use std::collections::HashMap;

use crate::graph::cut_name;

/// The most names. Others are counted, and not compared. A name takes up to 60 KiB, typically 15.
pub(super) const MOST: usize = 5_000;

/// A service, and a name of its spans.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// The service; empty if the process sent none.
    pub service: String,
    /// The name of the spans.
    pub span: String,
}

/// The number of a name.
pub(super) type NameId = usize;

/// Numbers the names.
#[derive(Default, Debug)]
pub(super) struct Names {
    ids: HashMap<String, HashMap<String, NameId>>,
    names: Vec<Name>,
}

impl Names {
    /// The number of a name. `None` if there are too many. Names that are not chosen are only called by others, and leave half of
    /// the room to those that are.
    pub(super) fn id(&mut self, service: &str, span: &str, is_chosen: bool) -> Option<NameId> {
        let known = self.known(service, span);
        let most = if is_chosen { MOST } else { MOST / 2 };
        if known.is_some() || self.names.len() >= most {
            return known;
        }
        let id = self.names.len();
        let name = Name { service: cut_name(service), span: cut_name(span) };
        self.ids.entry(name.service.clone()).or_default().insert(name.span.clone(), id);
        self.names.push(name);
        Some(id)
    }

    /// The number of a name that has one.
    pub(super) fn known(&self, service: &str, span: &str) -> Option<NameId> {
        let find = |service: &str, span: &str| self.ids.get(service)?.get(span).copied();
        // Only names that are too long are copied.
        find(service, span).or_else(|| find(&cut_name(service), &cut_name(span)))
    }

    pub(super) fn all(&self) -> &[Name] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_even_if_it_is_cut() {
        let mut names = Names::default();
        let long = "ü".repeat(5000);
        let ids = [("a", "x"), ("a", "y"), ("b", "x"), ("a", &long), ("a", "x"), ("a", &long)]
            .map(|(service, span)| names.id(service, span, true));
        assert_eq!(ids, [0, 1, 2, 3, 0, 3].map(Some));
        assert_eq!(names.known("a", &long), Some(3));
        assert_eq!(names.all()[3].span.len(), 1000);
    }

    #[test]
    fn names_beyond_the_limit_have_none() {
        let mut names = Names::default();
        let given = (0..MOST + 2).filter_map(|n| names.id("a", &n.to_string(), true)).count();
        assert_eq!((given, names.all().len()), (MOST, MOST));
    }

    #[test]
    fn chosen_names_have_room_after_many_others() {
        let mut names = Names::default();
        (0..MOST).for_each(|n| _ = names.id("a", &n.to_string(), false));
        let given = (0..MOST).filter_map(|n| names.id("b", &n.to_string(), true)).count();
        assert_eq!((given, names.all().len()), (MOST / 2, MOST));
    }
}
