//! The flame graph as a tree of lists, which the script draws: the name, the colour, how many spans, the time of all above, the
//! self time, and the nodes above.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::super::flamegraph::{class_of, class_of_cause};
use super::super::stacks::{Stacks, cause};
use super::nothing;

/// The most nodes, those with the most time.
const MAX_NODES: usize = 5_000;

/// The tree, and how many nodes were left out.
pub(super) fn tree(stacks: &Stacks) -> (Value, u64) {
    let totals = stacks.totals_ns();
    let mut largest: Vec<u32> = (0..).take(totals.len()).collect();
    let total = |place: &u32| totals.get(*place as usize).copied().unwrap_or(0);
    // A node has at least the time of one above it, so that the largest are a tree. Of those with the same time, the lower one
    // comes first.
    largest.sort_by_key(|place| (std::cmp::Reverse(total(place)), *place));
    let left_out = largest.len().saturating_sub(MAX_NODES) as u64;
    largest.truncate(MAX_NODES);
    let kept: HashSet<u32> = largest.into_iter().collect();
    let children = stacks.children();
    let mut made: Vec<Option<Value>> = vec![None; totals.len()];
    // What is above comes later in the list of nodes.
    for (place, node) in stacks.nodes().iter().enumerate().rev() {
        if !u32::try_from(place).is_ok_and(|place| kept.contains(&place)) {
            continue;
        }
        let above = children.get(place).into_iter().flatten();
        let mut above: Vec<Value> = above.filter_map(|above| made.get_mut(*above as usize)?.take()).collect();
        for (part, ns) in node.parts().filter(|(_, ns)| *ns > 0) {
            if let Some(name) = cause(part) {
                above.push(json!([name, class_of_cause(part), 0, ns, ns, []]));
            }
        }
        let colour = if place == 0 { String::new() } else { class_of(stacks, node) };
        made[place] =
            Some(json!([stacks.name(node), colour, node.spans, totals[place], node.self_ns(), above]));
    }
    (made.into_iter().next().flatten().unwrap_or_else(nothing), left_out)
}
