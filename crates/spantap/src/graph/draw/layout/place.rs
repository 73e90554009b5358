//! Finds the heights of the items: each as near as possible to those that it is joined to, without overlaps.

use super::items::Items;

/// Passes over all columns, to the right and back.
const PASSES: usize = 12;

/// Places each item, and moves the drawing so that its top is at 0.
pub(super) fn place(items: &mut Items) {
    let count = items.columns.len();
    for column in 0..count {
        arrange(items, column, &vec![0.0; items.columns[column].len()]);
    }
    for pass in 0..PASSES {
        let to_the_right = pass % 2 == 0;
        for step in 0..count {
            let column = if to_the_right { step } else { count - 1 - step };
            let wanted: Vec<f64> = items.columns[column]
                .iter()
                .map(|place| {
                    let item = &items.all[*place];
                    // Those on one side in turn, because a middle of both would hardly move anything.
                    let (near, far) =
                        if to_the_right { (&item.left, &item.right) } else { (&item.right, &item.left) };
                    let joined = if near.is_empty() { far } else { near };
                    match joined.len() {
                        0 => item.y,
                        count => joined.iter().map(|other| items.all[*other].y).sum::<f64>() / count as f64,
                    }
                })
                .collect();
            arrange(items, column, &wanted);
        }
    }
    let top = items.all.iter().map(|item| item.y - item.size.height / 2.0).reduce(f64::min).unwrap_or(0.0);
    for item in &mut items.all {
        item.y -= top;
    }
}

/// Items of a column that touch each other, with the mean of where the first one should be.
struct Block {
    mean: f64,
    count: usize,
}

/// Places the items of a column so that the sum of the squares of the distances to the wanted places is the least, in
/// their order and without overlaps: the regression with "pool adjacent violators".
fn arrange(items: &mut Items, column: usize, wanted: &[f64]) {
    let column = items.columns[column].clone();
    // Where each item is if the first one is at 0 and all touch.
    let mut offsets = Vec::with_capacity(column.len());
    let mut offset = 0.0;
    for (place, item) in column.iter().enumerate() {
        if let Some(before) = place.checked_sub(1) {
            offset += items.distance(column[before], *item);
        }
        offsets.push(offset);
    }
    let mut blocks: Vec<Block> = Vec::new();
    for (wanted, offset) in wanted.iter().zip(&offsets) {
        let mut block = Block { mean: wanted - offset, count: 1 };
        while let Some(above) = blocks.last().filter(|above| above.mean > block.mean) {
            let count = above.count + block.count;
            let sum = above.mean * above.count as f64 + block.mean * block.count as f64;
            block = Block { mean: sum / count as f64, count };
            blocks.pop();
        }
        blocks.push(block);
    }
    let means = blocks.iter().flat_map(|block| std::iter::repeat_n(block.mean, block.count));
    for ((item, offset), mean) in column.iter().zip(offsets).zip(means) {
        items.all[*item].y = mean + offset;
    }
}
