//! Finds places for boxes and for the links between them: a layered drawing, from left to right, as of Sugiyama, Tagawa and
//! Toda.
//!
//! ```text
//! boxes, links ─ layers ─> a layer for each box ─ items ─> columns of items ─ order ─> few crossings
//!              ─ place ─> heights without overlaps ─ route ─> Layout
//! ```
//!
//! `layers` gives each box a layer, so that links lead to the right where possible. A column of its own between two layers
//! of boxes has the labels of links. `items` puts what is in a column together: boxes, labels, and the places where a link
//! passes. `order` sorts each column, and `place` finds the heights. `route` draws the links.

mod items;
mod layers;
mod order;
mod place;
mod route;
#[cfg(test)]
mod tests;

use items::Items;

/// The size of a box or of a label.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A link between two boxes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Link {
    /// The places of the boxes.
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: Size,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// How a link is drawn.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Route {
    /// From the border of one box to the border of the other. From the first point to the second, the link is a curve that
    /// begins and ends horizontally; from the second to the third a straight line; and so on in turn. A link of a box to
    /// itself has two points, and its label is to the right of it.
    pub(super) points: Vec<Point>,
    /// The place of the label.
    pub(super) label: Rect,
    /// The direction in which the link arrives: 1 to the right, -1 to the left.
    pub(super) arrives: f64,
}

/// A drawing, from (0, 0) on.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Layout {
    pub(super) size: Size,
    pub(super) boxes: Vec<Rect>,
    pub(super) routes: Vec<Route>,
}

/// Finds places for all boxes and links. The links have to lead from and to boxes that there are.
pub(super) fn layout(boxes: &[Size], links: &[Link]) -> Layout {
    let layers = layers::layers(boxes.len(), links);
    let mut items = Items::new(boxes, links, &layers);
    order::order(&mut items);
    place::place(&mut items);
    route::routes(&items, boxes.len(), links)
}
