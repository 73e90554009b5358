//! Draws a span's time within its parent's, to the half column: `  ━━╾───▸`. One part of it is heavy, the rest light.
//!
//! The heavy part is the busy share. Only the shares are known, not when the span was busy, so the busy share is drawn
//! first. Or it is the part on the critical path, at its place.

use std::ops::Range;

use opentelemetry_proto::tonic::trace::v1::Span;

/// An interval of time, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Interval {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

impl Interval {
    pub(super) fn of(span: &Span) -> Self {
        let start_ns = span.start_time_unix_nano;
        Self { start_ns, end_ns: span.end_time_unix_nano.max(start_ns) }
    }

    /// If it lies outside of `parent`, an interval of the same length at the nearer end of `parent`.
    pub(super) fn moved_to(self, parent: Self) -> Self {
        let length = self.duration_ns();
        match () {
            () if self.end_ns < parent.start_ns => {
                Self { start_ns: parent.start_ns, end_ns: parent.start_ns.saturating_add(length) }
            }
            () if self.start_ns > parent.end_ns => {
                Self { start_ns: parent.end_ns.saturating_sub(length), end_ns: parent.end_ns }
            }
            () => self,
        }
    }

    pub(super) fn duration_ns(self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// The position of a time when the interval is divided into `parts` parts, rounded to the nearest.
    pub(super) fn part(self, time_ns: u64, parts: usize) -> usize {
        let length = u128::from(self.duration_ns().max(1));
        let from_start = u128::from(time_ns.clamp(self.start_ns, self.end_ns) - self.start_ns);
        ((2 * from_start * parts as u128 + length) / (2 * length)) as usize
    }
}

/// How long a span was busy and idle, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Shares {
    pub(super) busy: u64,
    pub(super) idle: u64,
}

impl Shares {
    fn busy_of(self, whole: usize) -> usize {
        let all = (u128::from(self.busy) + u128::from(self.idle)).max(1);
        let busy = ((2 * u128::from(self.busy) * whole as u128 + all) / (2 * all)) as usize;
        // A share that is not zero stays visible.
        let most = if self.idle > 0 && whole > 1 { whole - 1 } else { whole };
        busy.clamp(usize::from(self.busy > 0).min(most), most)
    }

    /// The busy share in at most four columns: `25%`.
    pub(super) fn percent(self) -> String {
        match self.busy_of(100) {
            _ if self.busy == 0 && self.idle == 0 => String::new(),
            1 if u128::from(self.busy) * 100 < u128::from(self.busy) + u128::from(self.idle) => "<1%".into(),
            percent => format!("{percent}%"),
        }
    }
}

/// Which part of a bar is heavy.
#[derive(Clone, Copy)]
pub(super) enum Heavy<'a> {
    /// All of it.
    All,
    /// The busy share.
    Busy(Shares),
    /// These parts, which lie within the span.
    Parts(&'a [Interval]),
}

#[derive(Clone, Copy, PartialEq)]
enum Ink {
    None,
    Light,
    Heavy,
}

/// The bar of `span`, in which `columns` columns stand for `parent`, without trailing spaces. An arrow at an end means
/// that the span goes on beyond it. A span outside of its parent, as when clocks differ, is drawn at the nearer end with
/// its own length.
pub(super) fn bar(span: Interval, parent: Interval, heavy: Heavy<'_>, columns: usize) -> String {
    let halves = 2 * columns;
    let drawn = span.moved_to(parent);
    let (start, end) = match parent.duration_ns() {
        0 => (0, halves),
        _ => (parent.part(drawn.start_ns, halves), parent.part(drawn.end_ns, halves)),
    };
    let start = start.min(halves - 1);
    let end = end.max(start + 1);
    let mut ink = vec![Ink::None; halves];
    ink[start..end].fill(Ink::Light);
    let mut fill = |halves: Range<usize>| ink[halves].fill(Ink::Heavy);
    match heavy {
        Heavy::All => fill(start..end),
        Heavy::Busy(shares) => fill(start..start + shares.busy_of(end - start)),
        Heavy::Parts(parts) => parts.iter().for_each(|part| {
            // A part stays visible, however short it is.
            let from = parent.part(part.start_ns, halves).clamp(start, end - 1);
            fill(from..parent.part(part.end_ns, halves).clamp(from + 1, end));
        }),
    }
    let column = |column: usize| match (ink[2 * column], ink[2 * column + 1]) {
        _ if column == 0 && span.start_ns < parent.start_ns => '◂',
        _ if column + 1 == columns && span.end_ns > parent.end_ns => '▸',
        (Ink::None, Ink::None) => ' ',
        (Ink::None, Ink::Light) => '╶',
        (Ink::None, Ink::Heavy) => '╺',
        (Ink::Light, Ink::None) => '╴',
        (Ink::Light, Ink::Light) => '─',
        (Ink::Light, Ink::Heavy) => '╼',
        (Ink::Heavy, Ink::None) => '╸',
        (Ink::Heavy, Ink::Light) => '╾',
        (Ink::Heavy, Ink::Heavy) => '━',
    };
    (0..columns).map(column).collect::<String>().trim_end().to_owned()
}

/// A point in time, at the column where [`bar`] would draw it.
pub(super) fn point(time_ns: u64, parent: Interval, columns: usize) -> String {
    let at = parent.part(time_ns, columns).min(columns - 1);
    let mark = match () {
        () if time_ns < parent.start_ns => '◂',
        () if time_ns > parent.end_ns => '▸',
        () => '•',
    };
    format!("{}{mark}", " ".repeat(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Interval = Interval { start_ns: 100, end_ns: 200 };

    fn drawn(start_ns: u64, end_ns: u64, shares: Option<(u64, u64)>) -> String {
        let heavy = shares.map_or(Heavy::All, |(busy, idle)| Heavy::Busy(Shares { busy, idle }));
        bar(Interval { start_ns, end_ns }, PARENT, heavy, 10)
    }

    #[test]
    fn a_bar_has_the_position_of_the_span_in_its_parent() {
        assert_eq!(drawn(100, 200, None), "━━━━━━━━━━");
        assert_eq!(drawn(120, 150, None), "  ━━━");
        assert_eq!(drawn(125, 155, None), "  ╺━━╸");
        assert_eq!(drawn(200, 200, None), "         ╺");
        assert_eq!(drawn(120, 120, None), "  ╸");
    }

    #[test]
    fn busy_is_heavy_idle_is_light_and_both_stay_visible() {
        assert_eq!(drawn(100, 200, Some((1, 3))), "━━╾───────");
        assert_eq!(drawn(100, 200, Some((0, 9))), "──────────");
        assert_eq!(drawn(100, 200, Some((9, 0))), "━━━━━━━━━━");
        assert_eq!(drawn(100, 200, Some((1, u64::MAX))), "╾─────────");
        assert_eq!(drawn(100, 200, Some((u64::MAX, 1))), "━━━━━━━━━╾");
        assert_eq!(drawn(125, 155, Some((0, 1))), "  ╶──╴");
        assert_eq!(Shares { busy: 1, idle: 3 }.percent(), "25%");
        assert_eq!(Shares { busy: 1, idle: 999 }.percent(), "<1%");
        assert_eq!(Shares { busy: 1, idle: 0 }.percent(), "100%");
        assert_eq!(Shares { busy: u64::MAX, idle: u64::MAX }.percent(), "50%");
    }

    #[test]
    fn parts_are_heavy_at_their_place_and_stay_visible() {
        let parts = |parts: &[(u64, u64)]| {
            let parts: Vec<_> =
                parts.iter().map(|&(start_ns, end_ns)| Interval { start_ns, end_ns }).collect();
            bar(Interval { start_ns: 120, end_ns: 180 }, PARENT, Heavy::Parts(&parts), 10)
        };
        assert_eq!(parts(&[(120, 130), (150, 165)]), "  ━──━╾─");
        assert_eq!(parts(&[(141, 142), (179, 180)]), "  ──╾──╼");
        assert_eq!(parts(&[(120, 121)]), "  ╾─────");
        assert_eq!(parts(&[]), "  ──────");
        assert_eq!(parts(&[(120, 180)]), "  ━━━━━━");
    }

    #[test]
    fn parts_outside_the_parent_are_arrows() {
        assert_eq!(drawn(90, 150, None), "◂━━━━");
        assert_eq!(drawn(150, 201, None), "     ━━━━▸");
        assert_eq!(drawn(0, u64::MAX, None), "◂━━━━━━━━▸");
        assert_eq!(drawn(10, 20, None), "◂");
        assert_eq!(drawn(10, 60, None), "◂━━━━");
        assert_eq!(drawn(300, 330, None), "       ━━▸");
        assert_eq!(drawn(300, 400, None), "━━━━━━━━━▸");
        assert_eq!(drawn(300, 900, None), "━━━━━━━━━▸");
        assert_eq!(drawn(0, 0, None), "◂");
        assert_eq!(drawn(u64::MAX, u64::MAX, None), "         ▸");
    }

    #[test]
    fn a_parent_without_duration_still_has_the_full_width() {
        let now = Interval { start_ns: 7, end_ns: 7 };
        assert_eq!(bar(now, now, Heavy::All, 4), "━━━━");
        assert_eq!(bar(Interval { start_ns: 7, end_ns: 9 }, now, Heavy::All, 4), "━━━▸");
        assert_eq!(bar(Interval { start_ns: 1, end_ns: 2 }, now, Heavy::All, 4), "◂━━━");
    }

    #[test]
    fn events_are_points() {
        let all = [(100, "•"), (150, "     •"), (200, "         •"), (99, "◂"), (201, "         ▸")];
        for (time_ns, expected) in all {
            assert_eq!(point(time_ns, PARENT, 10), expected);
        }
    }
}
