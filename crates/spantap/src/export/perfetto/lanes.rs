//! Distributes slices over lanes, so that those of a lane nest, and puts their beginnings and ends in order.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// A lane of slices, and the track for it.
pub(super) struct Placed {
    pub(super) track: u64,
    /// By their start; of those that start together, the longest first.
    pub(super) slices: Vec<usize>,
}

/// The lanes of these slices, at most `most`, and how many slices have no room on them. A slice is on a lane in which it is within
/// the slices that are open at its start, or none is open.
pub(super) fn place(
    mut slices: Vec<usize>,
    most: usize,
    times: impl Fn(usize) -> (u64, u64),
) -> (Vec<Vec<usize>>, u64) {
    slices.sort_by_key(|slice| {
        let (start_ns, end_ns) = times(*slice);
        (start_ns, Reverse(end_ns))
    });
    let mut left_out = 0;
    let mut lanes: Vec<Lane> = Vec::new();
    // Lanes with open slices, by the end of the innermost one; and those without. A request may open thousands of slices at once, so
    // that no slice is compared with all lanes.
    let mut busy: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut free: BTreeSet<usize> = BTreeSet::new();
    for slice in slices {
        let (start_ns, end_ns) = times(slice);
        while let Some((_, lane)) = busy.first().copied().filter(|(end, _)| *end <= start_ns) {
            busy.pop_first();
            lanes[lane].open.pop();
            match lanes[lane].open.last() {
                Some(end) => _ = busy.insert((*end, lane)),
                None => _ = free.insert(lane),
            }
        }
        // Within the slice that ends first of those that end late enough; on a lane further up if one is free.
        let within = busy.range((end_ns, 0)..).next().copied();
        let unused = free.first().copied();
        let lane = match (within, unused) {
            (Some((_, lane)), Some(free)) => lane.min(free),
            (Some((_, lane)), None) | (None, Some(lane)) => lane,
            (None, None) if lanes.len() >= most => {
                left_out += 1;
                continue;
            }
            (None, None) => {
                lanes.push(Lane::default());
                lanes.len() - 1
            }
        };
        let of = &mut lanes[lane];
        match of.open.last() {
            Some(end) => _ = busy.remove(&(*end, lane)),
            None => _ = free.remove(&lane),
        }
        busy.insert((end_ns, lane));
        of.slices.push(slice);
        of.open.push(end_ns);
    }
    (lanes.into_iter().map(|lane| lane.slices).collect(), left_out)
}

#[derive(Default)]
struct Lane {
    slices: Vec<usize>,
    /// The ends of the slices that are open, the innermost last.
    open: Vec<u64>,
}

/// A slice begins or ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment {
    pub(super) at_ns: u64,
    pub(super) track: u64,
    pub(super) slice: usize,
    pub(super) is_begin: bool,
}

/// All beginnings and ends in the order of time. Of those at the same time on one track, an end is before the beginning of
/// what follows, and a beginning before that of what is within.
pub(super) fn in_order(placed: &[Placed], times: impl Fn(usize) -> (u64, u64)) -> Vec<Moment> {
    let mut moments = Vec::new();
    for Placed { track, slices } in placed {
        let moment = |at_ns, slice, is_begin| Moment { at_ns, track: *track, slice, is_begin };
        let mut open: Vec<(u64, usize)> = Vec::new();
        for &slice in slices {
            let (start_ns, end_ns) = times(slice);
            while let Some((end_ns, ended)) = open.pop_if(|(end_ns, _)| *end_ns <= start_ns) {
                moments.push(moment(end_ns, ended, false));
            }
            moments.push(moment(start_ns, slice, true));
            open.push((end_ns, slice));
        }
        while let Some((end_ns, ended)) = open.pop() {
            moments.push(moment(end_ns, ended, false));
        }
    }
    // Keeps the order of those at the same time.
    moments.sort_by_key(|moment| moment.at_ns);
    moments
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slices_that_overlap_are_on_two_lanes() {
        let slices = [(0, 10), (2, 5), (5, 12), (5, 10), (10, 12), (12, 12)];
        let lanes = place((0..slices.len()).collect(), 10, |slice| slices[slice]);
        assert_eq!(lanes, (vec![vec![0, 1, 3, 4, 5], vec![2]], 0));
        let lanes = place((0..slices.len()).collect(), 1, |slice| slices[slice]);
        assert_eq!(lanes, (vec![vec![0, 1, 3, 4, 5]], 1));
    }

    #[test]
    fn many_lanes_take_no_time_for_each_pair() {
        // None of them is within another one. By pairs, these were ten thousand million comparisons.
        let slices = 100_000_u64;
        let times = |slice: usize| (slice as u64, slice as u64 + slices);
        let (lanes, left_out) = place((0..slices as usize).collect(), usize::MAX, times);
        assert_eq!((lanes.len(), left_out), (slices as usize, 0));
    }

    proptest! {
        #[test]
        fn every_slice_is_once_on_a_lane_in_which_all_nest(
            slices in prop::collection::vec((0..30_u64, 0..12_u64), 0..40),
        ) {
            let slices: Vec<(u64, u64)> = slices.into_iter().map(|(start, length)| (start, start + length)).collect();
            let times = |slice: usize| slices[slice];
            let (lanes, left_out) = place((0..slices.len()).collect(), usize::MAX, times);
            prop_assert_eq!(left_out, 0);
            let placed: Vec<Placed> =
                (0..).zip(lanes).map(|(track, slices)| Placed { track, slices }).collect();
            let moments = in_order(&placed, times);
            prop_assert_eq!(moments.len(), 2 * slices.len());
            prop_assert!(moments.is_sorted_by_key(|moment| moment.at_ns));
            // As Perfetto reads them: an end is that of the last slice that began on its track.
            let mut open = vec![Vec::new(); placed.len()];
            let mut begun = vec![false; slices.len()];
            for Moment { at_ns, track, slice, is_begin } in moments {
                let open = &mut open[track as usize];
                if is_begin {
                    prop_assert_eq!(at_ns, slices[slice].0);
                    prop_assert!(!std::mem::replace(&mut begun[slice], true));
                    open.push(slice);
                } else {
                    prop_assert_eq!(open.pop().unwrap(), slice);
                    prop_assert_eq!(at_ns, slices[slice].1);
                }
            }
        }
    }
}
