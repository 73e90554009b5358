//! Sums up which spans waited for which, by their names.
//!
//! The kernel reports a name as an address in the memory of its process. The name of a callsite never moves, so each is
//! read once.

use std::collections::{HashMap, HashSet};
use std::io::IoSliceMut;
use std::sync::Arc;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::records::{NameAt, Program, TimeRecord};
use crate::stats::Wait;

/// The most bytes of a name.
const MAX_NAME: usize = 128;

/// The most names that are kept. Beyond them, spans are unnamed.
const MAX_NAMES: usize = 10_000;

/// The most pairs that are told apart. The waits of the rest are summed up as those of [`OTHERS`].
const MAX_PAIRS: usize = 1_000;

const OTHERS: &str = "(others)";

/// A span that is not recorded, or whose process ended before its name was read.
const UNNAMED: &str = "(unnamed)";

/// The names of spans.
#[derive(Default)]
pub(super) struct Names(HashMap<NameAt, Option<Arc<str>>>);

impl Names {
    pub(super) fn of(&mut self, name: NameAt) -> Option<Arc<str>> {
        if name.address == 0 || (self.0.len() >= MAX_NAMES && !self.0.contains_key(&name)) {
            return None;
        }
        self.0.entry(name).or_insert_with(|| read(name)).clone()
    }

    pub(super) fn forget(&mut self, programs: &HashSet<Program>) {
        self.0.retain(|name, _| !programs.contains(&name.program));
    }
}

fn read(name: NameAt) -> Option<Arc<str>> {
    let pid = Pid::from_raw(name.program.pid.try_into().ok()?);
    let remote = RemoteIoVec { base: name.address.try_into().ok()?, len: MAX_NAME };
    let mut bytes = [0; MAX_NAME];
    // Reads fewer bytes if the memory ends before that.
    let length = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[remote]).ok()?;
    let name = bytes[..length].split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
    Some(String::from_utf8_lossy(name).into())
}

/// How often and how long spans waited until a thread in another span woke them.
#[derive(Default)]
pub(super) struct Waits(HashMap<Pair, (u64, u64)>);

/// The name of the span that waited, and of the one in which it was woken.
type Pair = (Arc<str>, Arc<str>);

impl Waits {
    pub(super) fn add(&mut self, record: &TimeRecord, names: &mut Names) {
        let Some(waker) = record.waker else { return };
        let mut pair: Pair =
            [record.name, waker].map(|name| names.of(name).unwrap_or_else(|| UNNAMED.into())).into();
        if self.0.len() >= MAX_PAIRS && !self.0.contains_key(&pair) {
            pair = (OTHERS.into(), OTHERS.into());
        }
        let (count, time_ns) = self.0.entry(pair).or_default();
        *count += 1;
        *time_ns = time_ns.saturating_add(record.waited_ns);
    }

    pub(super) fn all(&self) -> Vec<Wait> {
        let waits = self.0.iter().map(|((span, waker), (count, time_ns))| Wait {
            span: Arc::clone(span),
            waker: Arc::clone(waker),
            count: *count,
            time_ns: *time_ns,
        });
        waits.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::account::Account;
    use std::ffi::CStr;

    fn at(name: &'static CStr) -> NameAt {
        let program = Program { pid: std::process::id(), image: 1 };
        NameAt { program, address: name.as_ptr() as u64 }
    }

    fn record(name: NameAt, waker: Option<NameAt>) -> TimeRecord {
        let program = name.program;
        TimeRecord { program, span_ids: vec![1], account: Account::default(), name, waker, waited_ns: 10 }
    }

    #[test]
    fn waits_are_summed_up_by_the_names_in_the_programs_memory() {
        let (mut waits, mut names) = (Waits::default(), Names::default());
        let unreadable = NameAt { address: 1, ..at(c"") };
        let gone = NameAt { program: Program { pid: u32::MAX, image: 1 }, ..at(c"b") };
        for waker in [Some(at(c"b")), None, Some(at(c"b")), Some(unreadable), Some(gone)] {
            waits.add(&record(at(c"a"), waker), &mut names);
        }
        let mut all: Vec<_> =
            waits.all().into_iter().map(|wait| (wait.span, wait.waker, wait.count, wait.time_ns)).collect();
        all.sort();
        assert_eq!(all, [("a".into(), UNNAMED.into(), 2, 20), ("a".into(), "b".into(), 2, 20)]);
    }

    #[test]
    fn a_program_with_many_names_has_the_rest_of_its_waits_summed_up() {
        let names: Vec<Arc<str>> = (0..2 * MAX_PAIRS).map(|number| number.to_string().into()).collect();
        let mut known = Names::default();
        let mut waits = Waits::default();
        for (number, name) in names.iter().enumerate() {
            let waker = NameAt { address: number as u64 + 1, ..at(c"") };
            known.0.insert(waker, Some(Arc::clone(name)));
            waits.add(&record(at(c"a"), Some(waker)), &mut known);
        }
        let all = waits.all();
        let others = all.iter().find(|wait| &*wait.span == OTHERS).expect("there are others");
        assert_eq!((all.len(), others.count), (MAX_PAIRS + 1, MAX_PAIRS as u64));
    }
}
