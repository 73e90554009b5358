//! What is in the columns of a drawing.

use super::{Link, Size};

/// The least distance between items of a column, one above the other.
pub(super) const GAP: f64 = 14.0;
/// The least distance between the ends of links at a box.
const BETWEEN_ENDS: f64 = 12.0;

/// A box, a label, or the place where a link passes a column.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) size: Size,
    /// The vertical centre.
    pub(super) y: f64,
    /// The items that are joined to it in the column to the left.
    pub(super) left: Vec<usize>,
    /// The same in the column to the right.
    pub(super) right: Vec<usize>,
}

/// All items.
#[derive(Debug)]
pub(super) struct Items {
    /// The boxes first.
    pub(super) all: Vec<Item>,
    /// The items of each column, from top to bottom. Boxes are in even columns, labels in odd ones.
    pub(super) columns: Vec<Vec<usize>>,
    pub(super) paths: Vec<Path>,
}

/// The items that a link passes.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// From left to right. The first and the last are boxes, except that for a link of a box to itself there are only the box
    /// and the label.
    pub(super) items: Vec<usize>,
    /// The column of the first.
    pub(super) first_column: usize,
    /// Which of the items is the label.
    pub(super) label: usize,
    /// Whether the link leads to the left.
    pub(super) is_reversed: bool,
}

impl Items {
    pub(super) fn new(boxes: &[Size], links: &[Link], layers: &[usize]) -> Self {
        // The last layer has a column for the labels of boxes that are linked to themselves.
        let count = 2 * (layers.iter().max().map_or(0, |last| last + 1));
        let mut items = Self { all: Vec::new(), columns: vec![Vec::new(); count], paths: Vec::new() };
        for (size, layer) in boxes.iter().zip(layers) {
            items.add(2 * layer, *size);
        }
        for link in links {
            let (from, to) = (layers[link.from], layers[link.to]);
            let is_reversed = to < from;
            let (first, last) = if is_reversed { (link.to, link.from) } else { (link.from, link.to) };
            let (start, end) = (2 * from.min(to), 2 * from.max(to));
            // A label is beside the box to the right: that of a caller with many links has no room beside the caller.
            let label = if link.from == link.to { start + 1 } else { end - 1 };
            let mut path = vec![first];
            for column in start + 1..=label {
                let size = if column == label { link.label } else { Size::default() };
                path.push(items.add(column, size));
            }
            let label = path.len() - 1;
            if link.from != link.to {
                path.push(last);
            }
            for (one, other) in path.iter().zip(&path[1..]) {
                items.all[*one].right.push(*other);
                items.all[*other].left.push(*one);
            }
            if link.from == link.to {
                // It comes back on the same side.
                items.all[first].right.push(path[label]);
            }
            items.paths.push(Path { items: path, first_column: start, label, is_reversed });
        }
        for item in &mut items.all[..boxes.len()] {
            let ends = item.left.len().max(item.right.len()) + 1;
            item.size.height = item.size.height.max(BETWEEN_ENDS * ends as f64);
        }
        items
    }

    fn add(&mut self, column: usize, size: Size) -> usize {
        let place = self.all.len();
        self.all.push(Item { size, y: 0.0, left: Vec::new(), right: Vec::new() });
        self.columns[column].push(place);
        place
    }

    /// The least distance between the centres of two items, one below the other.
    pub(super) fn distance(&self, one: usize, other: usize) -> f64 {
        (self.all[one].size.height + self.all[other].size.height) / 2.0 + GAP
    }

    /// The width of a column, which all of its boxes have.
    pub(super) fn width(&self, column: usize) -> f64 {
        self.columns[column].iter().map(|item| self.all[*item].size.width).fold(0.0, f64::max)
    }
}
