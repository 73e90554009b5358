//! Collects the faults of a datagram.

use super::fault::{Fault, Found};

/// The faults of a datagram: how often each kind was found, and the details of the first of each kind.
#[derive(Debug, Default)]
pub struct Faults {
    counts: Vec<(Found, u64)>,
    /// When the datagram arrived, in nanoseconds since 1970, to detect odd times. 0: unknown.
    pub(super) now_ns: u64,
    /// Whether attributes with reserved names stay as they are: in a file or in the request of another spantap, spantap
    /// itself may have added them.
    pub(super) keeps_reserved: bool,
    /// Whether the spans were decoded before, and then recorded by spantap with a checksum.
    pub(super) were_checked: bool,
    /// The memory that decoded spans may still take, as it is estimated. `None`: a datagram has no more than 256 KiB, and a
    /// file is the user's own.
    room: Option<usize>,
}

/// The most memory that the spans of a request may take when they are decoded: eight times the largest
/// request. Only many tiny items become more than that.
const MAX_DECODED: usize = 128 << 20;

/// About the memory of a text or a list, beside its content.
pub(super) const ALLOCATION: usize = 32;

/// About the memory of the spans of one process, without their content.
pub(super) const OF_PROCESS: usize = 1024;

/// 2000-01-01, in nanoseconds.
const YEAR_2000: u64 = 946_684_800_000_000_000;
const DAY: u64 = 86_400_000_000_000;

impl Faults {
    pub(super) fn at(now_ns: u64) -> Self {
        Self { now_ns, ..Self::default() }
    }

    /// The faults of a request from the network.
    pub(super) fn of_request(now_ns: u64) -> Self {
        Self { keeps_reserved: true, room: Some(MAX_DECODED), ..Self::at(now_ns) }
    }

    /// The faults of a request that was read from a file.
    pub(super) fn of_file(written_ns: u64, were_checked: bool) -> Self {
        Self { keeps_reserved: true, were_checked, ..Self::at(written_ns) }
    }

    /// Each kind of fault once, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&Found, u64)> {
        self.counts.iter().map(|(found, count)| (found, *count))
    }

    pub(super) fn note(&mut self, fault: Fault, detail: impl FnOnce() -> String) {
        match self.counts.iter_mut().find(|(known, _)| known.fault == fault) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((Found::new(fault, detail()), 1)),
        }
    }

    pub(super) fn add(&mut self, found: Found) {
        self.note(found.fault, || found.detail);
    }

    /// Records a part of a span that can't be read and is left out. The span is accepted.
    pub(super) fn leave_out(&mut self, found: Found) {
        let fault = match found.fault {
            Fault::TooDeep | Fault::BadTime | Fault::BadReference => found.fault,
            _ => Fault::LeftOut,
        };
        self.note(fault, || found.detail);
    }

    /// Counts the memory of something that is to be decoded.
    ///
    /// # Errors
    ///
    /// With it, the request would take too much.
    #[inline]
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Found> {
        let Some(room) = &mut self.room else { return Ok(()) };
        *room = room.checked_sub(bytes).ok_or_else(|| {
            let detail = format!("decoded, the request would take more than {} MiB", MAX_DECODED >> 20);
            Found::new(Fault::TooMuch, detail)
        })?;
        Ok(())
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.counts.iter().any(|(found, _)| found.fault == fault)
    }

    pub(super) fn check_odd_time(&mut self, start_ns: u64, end_ns: u64) {
        if is_odd_time(start_ns, end_ns, self.now_ns) {
            self.note(Fault::OddTime, || format!("from {start_ns} to {end_ns} ns since 1970"));
        }
    }
}

pub(super) fn is_odd_time(start_ns: u64, end_ns: u64, now_ns: u64) -> bool {
    start_ns < YEAR_2000 || (now_ns > 0 && end_ns > now_ns.saturating_add(DAY))
}
