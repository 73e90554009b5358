//! Draws the links between items that have their places.

use std::collections::HashMap;

use super::items::{Items, Path};
use super::{Layout, Link, Point, Rect, Route, Size};

/// The least distance between columns, and the most that steep links add to it.
const GAP: f64 = 28.0;
const STEEP: f64 = 90.0;

/// Where a column begins and ends.
#[derive(Clone, Copy)]
struct Span {
    left: f64,
    right: f64,
}

pub(super) fn routes(items: &Items, boxes: usize, links: &[Link]) -> Layout {
    let spans = spans(items);
    let ports = Ports::new(items, boxes);
    let mut rects = vec![Rect { x: 0.0, y: 0.0, width: 0.0, height: 0.0 }; items.all.len()];
    for (column, span) in items.columns.iter().zip(&spans) {
        for place in column {
            let item = &items.all[*place];
            let height = item.size.height;
            rects[*place] =
                Rect { x: span.left, y: item.y - height / 2.0, width: span.right - span.left, height };
        }
    }
    let routes = items.paths.iter().zip(links).enumerate();
    let routes = routes.map(|(link, (path, of))| match of.from == of.to {
        true => around(link, path, &spans, &ports, &rects),
        false => along(link, path, items, &spans, &ports, &rects),
    });
    let routes = routes.collect();
    let size = Size {
        width: spans.last().map_or(0.0, |last| last.right),
        height: rects.iter().map(|rect| rect.y + rect.height).fold(0.0, f64::max),
    };
    rects.truncate(boxes);
    Layout { size, boxes: rects, routes }
}

fn along(link: usize, path: &Path, items: &Items, spans: &[Span], ports: &Ports, rects: &[Rect]) -> Route {
    let mut points = Vec::new();
    let last = path.items.len() - 1;
    for (place, item) in path.items.iter().enumerate() {
        let Span { left, right } = spans[path.first_column + place];
        let y = items.all[*item].y;
        match place {
            0 => points.push(Point { x: right, y: ports.right(*item, link, 0) }),
            place if place == last => points.push(Point { x: left, y: ports.left(*item, link) }),
            _ => points.extend([Point { x: left, y }, Point { x: right, y }]),
        }
    }
    if path.is_reversed {
        points.reverse();
    }
    let arrives = if path.is_reversed { -1.0 } else { 1.0 };
    Route { points, label: rects[path.items[path.label]], arrives }
}

/// A link of a box to itself leaves it on the right, and comes back on the same side.
fn around(link: usize, path: &Path, spans: &[Span], ports: &Ports, rects: &[Rect]) -> Route {
    let item = path.items[0];
    let (x, label) = (spans[path.first_column].right, rects[path.items[path.label]]);
    let points = [0, 1].map(|end| Point { x, y: ports.right(item, link, end) });
    Route { points: points.into(), label, arrives: -1.0 }
}

/// The columns, with more room where links are steep.
fn spans(items: &Items) -> Vec<Span> {
    let mut x = 0.0;
    let mut spans = Vec::new();
    for (place, column) in items.columns.iter().enumerate() {
        let right = x + items.width(place);
        spans.push(Span { left: x, right });
        let joined = |place: &usize| {
            let item = &items.all[*place];
            item.right.iter().map(|other| (items.all[*other].y - item.y).abs()).fold(0.0, f64::max)
        };
        let steepest = column.iter().map(joined).fold(0.0, f64::max);
        let is_last = place + 1 == items.columns.len() || items.columns[place + 1].is_empty();
        x = if is_last { right } else { right + GAP + (steepest / 4.0).min(STEEP) };
    }
    spans
}

/// Where links end at the sides of boxes, from top to bottom in the order of their other ends.
struct Ports {
    /// By the box, the link, and which of the link's two ends.
    right: HashMap<(usize, usize, usize), f64>,
    left: HashMap<(usize, usize), f64>,
}

impl Ports {
    fn new(items: &Items, boxes: usize) -> Self {
        let mut right = vec![Vec::new(); boxes];
        let mut left = vec![Vec::new(); boxes];
        for (link, path) in items.paths.iter().enumerate() {
            let y = |item: usize| items.all[item].y;
            let (first, last) = (path.items[0], path.items[path.items.len() - 1]);
            right[first].push((y(path.items[1]), link, 0));
            match last < boxes {
                true => left[last].push((y(path.items[path.items.len() - 2]), link, 0)),
                false => right[first].push((y(path.items[1]), link, 1)),
            }
        }
        let mut ports = Self { right: HashMap::new(), left: HashMap::new() };
        for (place, (right, left)) in right.iter_mut().zip(&mut left).enumerate() {
            let item = &items.all[place];
            let (top, height) = (item.y - item.size.height / 2.0, item.size.height);
            for (of, is_right) in [(right, true), (left, false)] {
                of.sort_by(|one, other| {
                    one.0.total_cmp(&other.0).then((one.1, one.2).cmp(&(other.1, other.2)))
                });
                let step = height / (of.len() + 1) as f64;
                for (rank, (_, link, end)) in of.iter().enumerate() {
                    let y = top + step * (rank + 1) as f64;
                    match is_right {
                        true => _ = ports.right.insert((place, *link, *end), y),
                        false => _ = ports.left.insert((place, *link), y),
                    }
                }
            }
        }
        ports
    }

    fn right(&self, place: usize, link: usize, end: usize) -> f64 {
        self.right.get(&(place, link, end)).copied().unwrap_or_default()
    }

    fn left(&self, place: usize, link: usize) -> f64 {
        self.left.get(&(place, link)).copied().unwrap_or_default()
    }
}
