//! Divides the spans of a name into blocks of time with as many spans each.

use super::ratio::BLOCKS;

/// The most starts that are kept. Blocks differ in size by about a sixteenth.
const MOST: usize = 512;

/// Starts of spans: each of a few, or one of so many of many.
#[derive(Default, Debug)]
pub(super) struct Starts {
    kept: Vec<u64>,
    seen: u64,
    /// The logarithm of how many spans one start stands for.
    skipped_bits: u32,
}

/// The times at which blocks begin.
#[derive(Default, Debug)]
pub(super) struct Blocks {
    /// Of all but the first block.
    begins: Vec<u64>,
}

impl Starts {
    pub(super) fn add(&mut self, start_ns: u64) {
        let one_of = 1_u64 << self.skipped_bits;
        if self.seen.is_multiple_of(one_of) {
            self.kept.push(start_ns);
        }
        self.seen += 1;
        if self.kept.len() > MOST {
            let mut place = 0;
            self.kept.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.skipped_bits += 1;
        }
    }

    /// The blocks of these spans.
    pub(super) fn blocks(&self) -> Blocks {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        let begin = |block: usize| sorted.get(sorted.len() * block / BLOCKS).copied();
        Blocks { begins: (1..BLOCKS).filter_map(begin).collect() }
    }
}

impl Blocks {
    /// From the second block to the last one: nearly the whole time of the spans, without single ones that are far away.
    pub(super) fn range_ns(&self) -> u64 {
        self.begins.last().zip(self.begins.first()).map_or(0, |(last, first)| last - first)
    }

    /// The block of a span that starts at this time.
    pub(super) fn of(&self, start_ns: u64) -> usize {
        self.begins.partition_point(|begin| *begin <= start_ns)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    fn sizes(starts: impl Iterator<Item = u64> + Clone) -> Vec<usize> {
        let mut kept = Starts::default();
        starts.clone().for_each(|start| kept.add(start));
        assert!(kept.kept.len() <= MOST);
        let (blocks, mut sizes) = (kept.blocks(), vec![0; BLOCKS]);
        starts.for_each(|start| sizes[blocks.of(start)] += 1);
        sizes
    }

    #[test]
    fn blocks_have_as_many_spans_however_many_there_are() {
        for spans in [32, 100, 1_000, 123_456] {
            // Later spans come ever more slowly, and each pair in the wrong order.
            let sizes = sizes((0..spans).map(|n| (n ^ 1) * (n ^ 1)));
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            let exact = spans as f64 / BLOCKS as f64;
            assert!((*least as f64) > 0.8 * exact - 1.0, "{spans}: {sizes:?}");
            assert!((*most as f64) < 1.2 * exact + 1.0, "{spans}: {sizes:?}");
        }
    }

    #[test]
    fn the_range_is_that_of_nearly_all_spans() {
        let range = |starts: &[u64]| {
            let mut kept = Starts::default();
            starts.iter().for_each(|start| kept.add(*start));
            kept.blocks().range_ns()
        };
        assert_eq!((range(&[]), range(&[7])), (0, 0));
        let mut starts: Vec<u64> = (1_000..2_000).collect();
        assert!((900..1_000).contains(&range(&starts)), "{}", range(&starts));
        starts.extend([0, u64::MAX]);
        assert!((900..1_000).contains(&range(&starts)), "{}", range(&starts));
    }

    #[test]
    fn few_spans_have_blocks_of_their_own() {
        assert_eq!(sizes(0..20).into_iter().filter(|size| *size > 0).count(), 20);
        assert_eq!(sizes([7; 100].into_iter()).into_iter().filter(|size| *size > 0).count(), 1);
    }
}
