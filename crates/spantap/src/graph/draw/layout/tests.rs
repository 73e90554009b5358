//! Drawings of any graph keep these promises.

use proptest::prelude::*;

use super::*;

const BOX: Size = Size { width: 100.0, height: 30.0 };
const LABEL: Size = Size { width: 80.0, height: 24.0 };

fn link((from, to): (usize, usize)) -> Link {
    Link { from, to, label: LABEL }
}

fn overlaps(one: &Rect, other: &Rect) -> bool {
    // Less than a hundredth is rounding.
    let apart = |at: f64, length: f64, other_at: f64, other_length: f64| {
        at + length <= other_at + 0.01 || other_at + other_length <= at + 0.01
    };
    !apart(one.x, one.width, other.x, other.width) && !apart(one.y, one.height, other.y, other.height)
}

fn is_on_side(rect: &Rect, point: Point) -> bool {
    let is_side = (point.x - rect.x).abs() < 0.01 || (point.x - rect.x - rect.width).abs() < 0.01;
    is_side && point.y > rect.y && point.y < rect.y + rect.height
}

#[test]
fn a_chain_leads_to_the_right() {
    let drawn = layout(&[BOX; 4], &[(2, 0), (0, 3), (3, 1)].map(link));
    let x = [2, 0, 3, 1].map(|place| drawn.boxes[place].x);
    assert!(x.is_sorted_by(|one, next| one + BOX.width < *next), "{x:?}");
    // On one line.
    assert!(drawn.boxes.iter().all(|rect| (rect.y - drawn.boxes[0].y).abs() < 0.01), "{drawn:?}");
}

#[test]
fn only_the_link_that_closes_a_circle_leads_back() {
    let drawn = layout(&[BOX; 4], &[(0, 1), (1, 2), (2, 3), (3, 1)].map(link));
    let back: Vec<bool> = drawn.routes.iter().map(|route| route.arrives < 0.0).collect();
    assert_eq!(back, [false, false, false, true]);
}

#[test]
fn links_that_need_not_cross_do_not() {
    // The boxes of the second column are in the wrong order at first.
    let drawn = layout(&[BOX; 6], &[(0, 5), (1, 4), (2, 3)].map(link));
    let y = [0, 1, 2, 5, 4, 3].map(|place| drawn.boxes[place].y);
    assert_eq!(y[..3], y[3..]);
}

#[test]
fn nothing_has_no_size() {
    assert_eq!(layout(&[], &[]).size, Size::default());
}

#[test]
fn a_chain_of_ten_thousand_is_not_too_deep() {
    let links: Vec<Link> = (0..9_999).map(|place| link((place, place + 1))).collect();
    assert_eq!(layout(&[BOX; 10_000], &links).boxes.len(), 10_000);
}

proptest! {
    #[test]
    fn nothing_overlaps_and_links_end_at_their_boxes(links in prop::collection::btree_set((0..9_usize, 0..9_usize), 0..30)) {
        let links: Vec<Link> = links.into_iter().map(link).collect();
        let drawn = layout(&[BOX; 9], &links);
        let places: Vec<Rect> = drawn.boxes.iter().copied().chain(drawn.routes.iter().map(|route| route.label)).collect();
        for (place, one) in places.iter().enumerate() {
            for other in &places[..place] {
                prop_assert!(!overlaps(one, other), "{one:?} {other:?}");
            }
            prop_assert!(one.x >= 0.0 && one.y >= -0.01, "{one:?}");
            prop_assert!(one.x + one.width <= drawn.size.width + 0.01, "{one:?}");
            prop_assert!(one.y + one.height <= drawn.size.height + 0.01, "{one:?}");
        }
        for (link, route) in links.iter().zip(&drawn.routes) {
            prop_assert!(is_on_side(&drawn.boxes[link.from], route.points[0]), "{route:?}");
            prop_assert!(is_on_side(&drawn.boxes[link.to], route.points[route.points.len() - 1]), "{route:?}");
            // A straight line crosses no box.
            for line in route.points[1..].chunks_exact(2) {
                let (left, right) = (line[0].x.min(line[1].x), line[0].x.max(line[1].x));
                let line = Rect { x: left, y: line[0].y, width: right - left, height: 0.0 };
                for rect in &drawn.boxes {
                    prop_assert!(!overlaps(&line, rect), "{line:?} {rect:?}");
                }
            }
        }
    }
}
