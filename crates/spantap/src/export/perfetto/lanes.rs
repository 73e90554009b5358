//! Distributes slices over lanes, so that those of a lane nest, and puts their beginnings and ends in order.

use std::cmp::Reverse;

/// A lane of slices, and the track for it.
pub(super) struct Placed {
    pub(super) track: u64,
    /// By their start; of those that start together, the longest first.
    pub(super) slices: Vec<usize>,
}

/// The lanes of these slices: each is on the first lane in which it is within the slices that are open at its start, or none is
/// open.
pub(super) fn place(mut slices: Vec<usize>, times: impl Fn(usize) -> (u64, u64)) -> Vec<Vec<usize>> {
    slices.sort_by_key(|slice| {
        let (start_ns, end_ns) = times(*slice);
        (start_ns, Reverse(end_ns))
    });
    // With the ends of the slices that are open, the innermost last.
    let mut lanes: Vec<(Vec<usize>, Vec<u64>)> = Vec::new();
    for slice in slices {
        let (start_ns, end_ns) = times(slice);
        let fits = |(_, open): &mut (Vec<usize>, Vec<u64>)| {
            while open.last().is_some_and(|end| *end <= start_ns) {
                open.pop();
            }
            open.last().is_none_or(|end| end_ns <= *end)
        };
        match lanes.iter_mut().position(fits).and_then(|lane| lanes.get_mut(lane)) {
            Some((of_lane, open)) => {
                of_lane.push(slice);
                open.push(end_ns);
            }
            None => lanes.push((vec![slice], vec![end_ns])),
        }
    }
    lanes.into_iter().map(|(slices, _)| slices).collect()
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
        let lanes = place((0..slices.len()).collect(), |slice| slices[slice]);
        assert_eq!(lanes, [vec![0, 1, 3, 4, 5], vec![2]]);
    }

    proptest! {
        #[test]
        fn every_slice_is_once_on_a_lane_in_which_all_nest(
            slices in prop::collection::vec((0..30_u64, 0..12_u64), 0..40),
        ) {
            let slices: Vec<(u64, u64)> = slices.into_iter().map(|(start, length)| (start, start + length)).collect();
            let times = |slice: usize| slices[slice];
            let lanes = place((0..slices.len()).collect(), times);
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
