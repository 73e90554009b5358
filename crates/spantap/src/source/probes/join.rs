//! Joins the program's own spans with what the kernel measured in them.
//!
//! The kernel reports the time off the CPU when a thread is back on a CPU, with the spans that it was in, and thus before
//! the batches with these spans. The time on the CPU is the rest of the time in which the program says that threads were in
//! the span.
//!
//! There is one exception. A thread whose memory was swapped out may get it back only as it exits the span; and if it
//! then runs on without a switch, its time that was not seen is reported after the batch. The failed reads were counted
//! before, so such a span is marked as incomplete.

use std::collections::{HashMap, HashSet};

use nix::time::ClockId;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::clock::{WallOffset, clock_ns};
use super::records::{Program, TimeRecord, UnseenRecord};
use crate::decode::{Decoded, LOSSES};
use crate::span::Summary;
use crate::span::account::{Account, ON_CPU, PARTIAL, UNSEEN};
use crate::span::attributes::{TOLD_BUSY, TOLD_ENTERED, attribute};

/// The most accounts that wait for their span are twice as many: about 60 MB.
const MAX_RECENT: usize = 1 << 17;

/// The accounts that wait for their span.
#[derive(Default)]
pub(super) struct Accounts {
    /// Those that have changed recently.
    recent: HashMap<(Program, u64), Entered>,
    /// Those that have not changed since. They are forgotten next.
    earlier: HashMap<(Program, u64), Entered>,
    /// How many were forgotten before their span came.
    pub(super) forgotten: u64,
    /// How many records were lost in the kernel by the last batch, and when that was, in nanoseconds since 1970.
    lost: (u64, u64),
    /// The times in which something was lost in the kernel or forgotten here.
    gaps: Vec<(u64, u64)>,
}

/// The most times with losses that are remembered. Then the first two become one.
const MAX_GAPS: usize = 100;

/// What the kernel reported of the threads that were in a span.
#[derive(Clone, Copy, Default)]
struct Entered {
    /// Their time off the CPU.
    account: Account,
    has_summary: bool,
    /// A thread was not followed all the time.
    has_gap: bool,
}

impl Accounts {
    /// A batch was made at `now_ns`, when `lost` records had been lost.
    pub(super) fn lost(&mut self, lost: u64, now_ns: u64) {
        let (known, before_ns) = std::mem::replace(&mut self.lost, (lost, now_ns));
        if lost != known {
            self.add_loss(before_ns, now_ns);
        }
    }

    fn add_loss(&mut self, from_ns: u64, to_ns: u64) {
        self.gaps.push((from_ns.min(to_ns), to_ns));
        if self.gaps.len() > MAX_GAPS {
            let (from_ns, to_ns) = self.gaps.remove(0);
            if let Some(first) = self.gaps.first_mut() {
                *first = (first.0.min(from_ns), first.1.max(to_ns));
            }
        }
    }

    /// Whether something may be missing of a span with these times.
    fn may_lack(&self, (start_ns, end_ns): (u64, u64)) -> bool {
        self.gaps.iter().rev().any(|(from_ns, to_ns)| start_ns <= *to_ns && *from_ns <= end_ns)
    }

    /// It is not known what a thread did for a while.
    pub(super) fn add_unseen(&mut self, record: &UnseenRecord, wall: WallOffset) {
        self.add_unseen_time(record);
        // It may have exited more spans in that time.
        let first_exit_ns = record.spans.iter().map(|(_, (_, until_ns))| *until_ns).min().unwrap_or(u64::MAX);
        if record.has_others && first_exit_ns > record.from_ns {
            let [from_ns, to_ns] = [record.from_ns, first_exit_ns.min(record.to_ns)];
            self.add_loss(from_ns.saturating_add_signed(wall), to_ns.saturating_add_signed(wall));
        }
    }

    /// A thread was in spans before it was followed.
    pub(super) fn add_gap(&mut self, record: &UnseenRecord) {
        for span_id in self.add_unseen_time(record) {
            self.of(record.program, span_id).has_gap = true;
        }
    }

    /// Counts the time for the spans that the thread was in. Returns these.
    fn add_unseen_time(&mut self, record: &UnseenRecord) -> Vec<u64> {
        let mut spans = Vec::new();
        for (span_id, (since_ns, until_ns)) in &record.spans {
            let unseen_ns = record.to_ns.min(*until_ns).saturating_sub(record.from_ns.max(*since_ns));
            if unseen_ns > 0 {
                let unseen = &mut self.of(record.program, *span_id).account.0[UNSEEN];
                *unseen = unseen.saturating_add(unseen_ns);
                spans.push(*span_id);
            }
        }
        spans
    }

    pub(super) fn add(&mut self, record: &TimeRecord) {
        for (at, span_id) in record.span_ids.iter().enumerate() {
            // A thread may have entered a span twice. An id of 0 is one that it was just writing.
            if *span_id == 0 || record.span_ids.iter().skip(at + 1).any(|inner| inner == span_id) {
                continue;
            }
            let entered = self.of(record.program, *span_id);
            for (sum, ns) in entered.account.0.iter_mut().zip(record.account.0) {
                *sum = sum.saturating_add(ns);
            }
        }
    }

    /// Short kernel spans of the span wait in the kernel.
    pub(super) fn summarized(&mut self, program: Program, span_id: u64) {
        self.of(program, span_id).has_summary = true;
    }

    fn of(&mut self, program: Program, span_id: u64) -> &mut Entered {
        let key = (program, span_id);
        if !self.recent.contains_key(&key) {
            let known = self.earlier.remove(&key).unwrap_or_default();
            if self.recent.len() >= MAX_RECENT {
                let forgotten = std::mem::replace(&mut self.earlier, std::mem::take(&mut self.recent)).len();
                if forgotten > 0 {
                    self.forgotten += forgotten as u64;
                    // Whenever the spans of these began.
                    self.add_loss(0, clock_ns(ClockId::CLOCK_REALTIME));
                }
            }
            self.recent.insert(key, known);
        }
        self.recent.entry(key).or_default()
    }

    pub(super) fn forget(&mut self, programs: &HashSet<Program>) {
        self.recent.retain(|(program, _), _| !programs.contains(program));
        self.earlier.retain(|(program, _), _| !programs.contains(program));
    }

    fn take(&mut self, program: Program, span_id: u64) -> Option<Entered> {
        let key = (program, span_id);
        self.recent.remove(&key).or_else(|| self.earlier.remove(&key))
    }
}

/// Completes the spans of a batch.
pub(super) struct Join<'a> {
    pub(super) accounts: &'a mut Accounts,
    pub(super) program: Program,
    /// When its build was attached to, in nanoseconds since 1970.
    pub(super) attached_at_ns: u64,
    /// When spantap was told to stop. Spans that end later are left out: their account is not complete.
    pub(super) until_ns: u64,
    pub(super) knows_time: bool,
    /// Receives the ids of spans that have short kernel spans in the kernel.
    pub(super) summarized: &'a mut Vec<u64>,
}

/// Reasons why a span is incomplete.
const BEFORE: &str = "it began before spantap attached";
const UNFOLLOWED: &str = "its threads were not followed all the time";
const UNSEEN_TIME: &str =
    "the kernel did not report all switches of its threads, or their memory could not be read";
const MORE_TIME: &str = "the kernel reported more time than the program measured";

/// By how much the time that the program published may differ from the time that it measured: they are the same
/// readings of its clock.
const SLACK_NS: u64 = 1000;

impl Join<'_> {
    /// Adds the accounts to the spans of a batch. Returns whether any span ended in time.
    pub(super) fn complete(&mut self, decoded: &mut Decoded) -> bool {
        for (_, encoded) in &mut decoded.encoded {
            encoded.add_attributes(|span| (span.times.1 <= self.until_ns).then(|| self.attributes(span)));
        }
        for scope in decoded.processes.iter_mut().flat_map(|(_, scopes)| scopes) {
            // Losses are reported after the spans.
            scope.spans.retain(|span| span.end_time_unix_nano <= self.until_ns || span.name == LOSSES);
            for span in scope.spans.iter_mut().filter(|span| span.name != LOSSES) {
                let added = Summary::of(span).map(|summary| self.attributes(&summary));
                span.attributes.extend(added.unwrap_or_default());
                span.attributes.retain(|attribute| ![TOLD_BUSY, TOLD_ENTERED].contains(&&*attribute.key));
            }
        }
        decoded.encoded.retain(|(_, encoded)| !encoded.spans.is_empty());
        decoded.processes.retain(|(_, scopes)| scopes.iter().any(|scope| !scope.spans.is_empty()));
        !(decoded.encoded.is_empty() && decoded.processes.is_empty())
    }

    /// The account of a span that has ended, and a mark if it is incomplete.
    fn attributes(&mut self, span: &Summary) -> Vec<KeyValue> {
        let Entered { mut account, has_summary, has_gap } =
            self.accounts.take(self.program, span.span_id).unwrap_or_default();
        if has_summary {
            self.summarized.push(span.span_id);
        }
        if !self.knows_time {
            return span.began_before.then(|| partial(BEFORE)).into_iter().collect();
        }
        let off_cpu_ns = account.entered_ns();
        let entered_ns = span.entered_ns.or(span.busy_ns).unwrap_or(off_cpu_ns);
        account.0[ON_CPU] = entered_ns.saturating_sub(off_cpu_ns);
        let is_less = span.busy_ns.is_some_and(|busy_ns| entered_ns.saturating_add(SLACK_NS) < busy_ns);
        let why = match () {
            // A thread may have been in it before it was followed.
            () if span.began_before || span.times.0 < self.attached_at_ns => Some(BEFORE),
            () if is_less || has_gap || self.accounts.may_lack(span.times) => Some(UNFOLLOWED),
            () if account.unseen_ns() > 0 => Some(UNSEEN_TIME),
            () if off_cpu_ns > entered_ns.saturating_add(SLACK_NS) => Some(MORE_TIME),
            () => None,
        };
        account.attributes().chain(why.map(partial)).collect()
    }
}

/// The mark of an incomplete span.
fn partial(why: &str) -> KeyValue {
    attribute(PARTIAL, Value::StringValue(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::probes::records::NameAt;
    use crate::span::account::STATES;

    fn record(span_ids: &[u64]) -> TimeRecord {
        let program = Program { pid: 1, image: 2 };
        let (account, name) = (Account([1; STATES]), NameAt { program, address: 0 });
        TimeRecord { program, span_ids: span_ids.to_vec(), account, name, waker: None, waited_ns: 0 }
    }

    #[test]
    fn what_threads_did_in_a_span_and_those_below_it_adds_up() {
        let mut accounts = Accounts::default();
        let program = record(&[]).program;
        let records = [record(&[7]), record(&[7, 8]), record(&[7, 8, 7]), record(&[8])];
        records.iter().for_each(|record| accounts.add(record));
        for span_id in [7, 8] {
            let entered = accounts.take(program, span_id).expect("it was added");
            assert_eq!(entered.account, Account([3; STATES]));
            assert!(accounts.take(program, span_id).is_none(), "it was taken");
        }
    }

    #[test]
    fn a_time_that_is_unknown_counts_for_the_spans_that_were_exited_in_it() {
        let mut accounts = Accounts::default();
        let program = record(&[]).program;
        let spans = vec![(1, (0, 90)), (2, (50, 150)), (3, (160, 170)), (4, (180, 300)), (5, (220, 250))];
        let mut record = UnseenRecord { program, from_ns: 100, to_ns: 200, spans, has_others: true };
        accounts.add_unseen(&record, 0);
        let unseen =
            [1, 2, 3, 4, 5].map(|id| accounts.take(program, id).map(|taken| taken.account.unseen_ns()));
        assert_eq!(unseen, [None, Some(50), Some(10), Some(20), None]);
        assert!(!accounts.may_lack((0, 1000)), "the exits go back far enough");
        record.spans.remove(0);
        accounts.add_unseen(&record, 1000);
        assert!(accounts.may_lack((1120, 1130)) && !accounts.may_lack((1160, 1170)));
    }

    #[test]
    fn losses_are_remembered_when_there_are_many() {
        let mut accounts = Accounts::default();
        [(0, 100), (50, 60)].into_iter().for_each(|(from, to)| accounts.add_loss(from, to));
        (0..99).for_each(|_| accounts.add_loss(200, 201));
        assert!(
            accounts.may_lack((80, 90)) && accounts.may_lack((150, 200)) && !accounts.may_lack((110, 190))
        );
        // Only a change of the count is a loss.
        let mut accounts = Accounts::default();
        [(0, 10), (0, 20), (3, 30), (3, 40)].into_iter().for_each(|(lost, now)| accounts.lost(lost, now));
        assert!(accounts.may_lack((25, 26)) && !accounts.may_lack((5, 15)) && !accounts.may_lack((35, 40)));
    }

    #[test]
    fn the_accounts_without_a_change_are_forgotten_first_and_counted() {
        let mut accounts = Accounts::default();
        let program = record(&[]).program;
        let fill = |accounts: &mut Accounts, from: u64| {
            (from..from + MAX_RECENT as u64).for_each(|id| accounts.add(&record(&[id])));
        };
        fill(&mut accounts, 1);
        fill(&mut accounts, 1 << 20);
        assert_eq!(accounts.forgotten, 0);
        assert!(!accounts.may_lack((0, u64::MAX)));
        // An old one that changes is a recent one, which makes the recent ones old.
        accounts.add(&record(&[1]));
        assert_eq!(accounts.forgotten, MAX_RECENT as u64 - 1);
        assert!(accounts.may_lack((1, 2)));
        assert_eq!(accounts.take(program, 1).map(|entered| entered.account), Some(Account([2; STATES])));
        assert!(accounts.earlier.contains_key(&(program, 1 << 20)));
        accounts.forget(&HashSet::from([program]));
        assert!(accounts.earlier.is_empty() && accounts.recent.is_empty());
    }
}
