//! The place in a list: which row is selected, and which is the first on the screen.

/// A place in a list. The selection stays with its item when the list changes.
#[derive(Debug)]
pub(super) struct Place<K> {
    selected: usize,
    first: usize,
    key: Option<K>,
}

impl<K> Default for Place<K> {
    fn default() -> Self {
        Self { selected: 0, first: 0, key: None }
    }
}

impl<K: Clone + PartialEq> Place<K> {
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// Selects the item at `index`, or the last one.
    pub(super) fn select(&mut self, index: usize, keys: &[K]) {
        self.selected = index.min(keys.len().saturating_sub(1));
        self.key = keys.get(self.selected).cloned();
    }

    /// Moves by so many items.
    pub(super) fn move_by(&mut self, items: isize, keys: &[K]) {
        self.select(self.selected.saturating_add_signed(items), keys);
    }

    /// Follows the selected item to where it is now. Until something was selected, the first is.
    pub(super) fn follow(&mut self, keys: &[K]) {
        let place = self.key.as_ref().and_then(|key| keys.iter().position(|other| other == key));
        self.selected = place.unwrap_or(self.selected).min(keys.len().saturating_sub(1));
    }

    /// The first item on a screen of `lines`, such that the selected one is on it.
    pub(super) fn scroll(&mut self, lines: usize, items: usize) -> usize {
        let lines = lines.max(1);
        let last_first = items.saturating_sub(lines);
        self.first =
            self.first.clamp((self.selected + 1).saturating_sub(lines), self.selected).min(last_first);
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_stays_with_its_item() {
        let mut place = Place::default();
        let mut keys = vec!['a', 'b', 'c'];
        place.follow(&keys);
        assert_eq!(place.selected(), 0);
        place.move_by(1, &keys);
        keys.insert(0, 'x');
        place.follow(&keys);
        assert_eq!(keys.get(place.selected()), Some(&'b'));
        // Once the item is gone, the selection is near.
        keys.truncate(1);
        place.follow(&keys);
        assert_eq!(place.selected(), 0);
        place.follow(&[]);
        assert_eq!(place.selected(), 0);
    }

    #[test]
    fn until_something_was_selected_the_first_is() {
        let mut place = Place::default();
        place.follow(&['a', 'b']);
        place.follow(&['b', 'a']);
        assert_eq!(place.selected(), 0);
    }

    #[test]
    fn the_selected_item_is_on_the_screen() {
        let mut place = Place::default();
        let keys: Vec<usize> = (0..100).collect();
        for (index, lines, first) in
            [(0, 10, 0), (9, 10, 0), (10, 10, 1), (99, 10, 90), (95, 10, 90), (50, 10, 50)]
        {
            place.select(index, &keys);
            assert_eq!(place.scroll(lines, keys.len()), first, "{index}");
        }
        assert_eq!(place.scroll(1_000, keys.len()), 0, "no line stays empty");
        assert_eq!(place.scroll(0, keys.len()), 50);
    }
}
