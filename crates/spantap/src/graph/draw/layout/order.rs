//! Sorts the columns so that few links cross: each item near the middle of those that it is joined to.

use super::items::{Item, Items};

/// Passes over all columns, to the right and back. More change little.
const PASSES: usize = 8;

/// Sorts each column.
pub(super) fn order(items: &mut Items) {
    let mut rank = vec![0; items.all.len()];
    let note = |column: &[usize], rank: &mut [usize]| {
        for (place, item) in column.iter().enumerate() {
            rank[*item] = place;
        }
    };
    items.columns.iter().for_each(|column| note(column, &mut rank));
    let mut best = (crossings(items, &rank), items.columns.clone());
    for _ in 0..PASSES {
        let count = items.columns.len();
        for column in 1..count {
            sort(items, column, &rank, |item| &item.left);
            note(&items.columns[column], &mut rank);
        }
        for column in (0..count.saturating_sub(1)).rev() {
            sort(items, column, &rank, |item| &item.right);
            note(&items.columns[column], &mut rank);
        }
        let crossings = crossings(items, &rank);
        if crossings < best.0 {
            best = (crossings, items.columns.clone());
        }
    }
    items.columns = best.1;
}

fn sort(items: &mut Items, column: usize, rank: &[usize], joined: fn(&Item) -> &Vec<usize>) {
    let middle = |item: &usize| {
        let joined = joined(&items.all[*item]);
        match joined.len() {
            0 => rank[*item] as f64,
            count => joined.iter().map(|other| rank[*other]).sum::<usize>() as f64 / count as f64,
        }
    };
    let mut sorted: Vec<(f64, usize)> =
        items.columns[column].iter().map(|item| (middle(item), *item)).collect();
    // Stable: items with the same middle stay in their order.
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    items.columns[column] = sorted.into_iter().map(|(_, item)| item).collect();
}

/// How many pairs of links between neighbouring columns cross.
fn crossings(items: &Items, rank: &[usize]) -> u64 {
    let mut count = 0;
    for pair in items.columns.windows(2) {
        // The right ends, by their left ends. Two that are not in order cross.
        let mut counts = Counts(vec![0; pair[1].len()]);
        let mut passed = 0;
        for item in &pair[0] {
            let mut ends: Vec<usize> = items.all[*item].right.iter().map(|other| rank[*other]).collect();
            ends.sort_unstable();
            count += ends.iter().map(|end| passed - counts.up_to(*end)).sum::<u64>();
            ends.iter().for_each(|end| counts.add(*end));
            passed += ends.len() as u64;
        }
    }
    count
}

/// Counts by place, in a Fenwick tree.
struct Counts(Vec<u64>);

impl Counts {
    fn add(&mut self, place: usize) {
        let mut at = place + 1;
        while at <= self.0.len() {
            self.0[at - 1] += 1;
            at += at & at.wrapping_neg();
        }
    }

    fn up_to(&self, place: usize) -> u64 {
        let (mut at, mut sum) = (place + 1, 0);
        while at > 0 {
            sum += self.0[at - 1];
            at -= at & at.wrapping_neg();
        }
        sum
    }
}
