//! Gives each box a layer.

use super::Link;

/// The layer of each box, from 0. A link leads to a later layer, except one that closes a circle. A link of a box to itself
/// has no influence.
pub(super) fn layers(boxes: usize, links: &[Link]) -> Vec<usize> {
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); boxes];
    let mut is_called = vec![false; boxes];
    for link in links.iter().filter(|link| link.from != link.to) {
        next[link.from].push(link.to);
        is_called[link.to] = true;
    }
    // Boxes that nobody calls come first, so that the links that close circles are those that lead back.
    let mut starts: Vec<usize> = (0..boxes).collect();
    starts.sort_by_key(|place| is_called[*place]);
    let ended_last = depth_first(&next, &starts);

    // Before all boxes that it leads to, so that the longest path to a box is known when its turn comes.
    let mut rank = vec![0; boxes];
    for (place, of) in ended_last.iter().enumerate() {
        rank[*of] = place;
    }
    let mut layers = vec![0; boxes];
    for from in ended_last {
        for to in next[from].iter().copied().filter(|to| rank[*to] > rank[from]) {
            layers[to] = layers[to].max(layers[from] + 1);
        }
    }
    layers
}

/// The boxes in the reverse of the order in which a depth-first search leaves them. Without recursion, which long chains
/// could make too deep.
fn depth_first(next: &[Vec<usize>], starts: &[usize]) -> Vec<usize> {
    let mut is_seen = vec![false; next.len()];
    let mut left = Vec::with_capacity(next.len());
    for &start in starts {
        let mut path = Vec::new();
        if !std::mem::replace(&mut is_seen[start], true) {
            path.push((start, 0));
        }
        while let Some((place, child)) = path.last_mut() {
            match next[*place].get(*child) {
                Some(&to) => {
                    *child += 1;
                    if !std::mem::replace(&mut is_seen[to], true) {
                        path.push((to, 0));
                    }
                }
                None => {
                    left.push(*place);
                    path.pop();
                }
            }
        }
    }
    left.reverse();
    left
}
