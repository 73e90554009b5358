//! Points in time, as people and programs write them.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

/// The time in UTC, in the form of RFC 3339. `since_1970_ns` is in nanoseconds.
pub fn timestamp(since_1970_ns: u64) -> String {
    at(since_1970_ns).to_string()
}

/// The time in the time zone of this machine, to the millisecond.
pub(crate) fn local_time(since_1970_ns: u64) -> String {
    at(since_1970_ns).to_zoned(TimeZone::system()).strftime("%F %T%.3f").to_string()
}

/// All times up to the year 2554, the largest in 64 bits, are in the range of [`Timestamp`].
fn at(since_1970_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(since_1970_ns.into()).unwrap_or_default()
}

/// Reads a time: in the form of RFC 3339; or a date with a time or without, in the time zone of this machine. Returns
/// nanoseconds since 1970.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let local = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::system()).ok();
    let time = text.parse::<Timestamp>().ok().or_else(|| Some(local()?.timestamp()))?;
    time.as_nanosecond().try_into().ok()
}

/// The time that was this long ago, in nanoseconds since 1970.
pub(crate) fn time_ago(ago: Duration) -> u64 {
    let now = Timestamp::now().as_nanosecond();
    u64::try_from(now.saturating_sub(ago.as_nanos() as i128)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_so_that_it_is_read_again() {
        let ns = 1_796_037_879_881_768_123;
        assert_eq!(timestamp(ns), "2026-11-30T11:24:39.881768123Z");
        assert_eq!(parse_time(&timestamp(ns)), Some(ns));
        assert_eq!(parse_time("2026-11-30T12:24:39.881768123+01:00"), Some(ns));
        assert_eq!(timestamp(u64::MAX), "2554-07-21T23:34:33.709551615Z");
        for text in ["", "11:24", "yesterday", "1796037879", "2026-13-01", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        // In the time zone of the machine, whatever it is.
        let day = parse_time("2026-11-30 10:00").zip(parse_time("2026-11-30"));
        assert_eq!(day.map(|(ten, midnight)| ten - midnight), Some(10 * 3_600_000_000_000));
    }
}
