//! The processes of records, and which of them still run.

use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A process and the program it executes. A later process with the same pid, or the same process after an exec,
/// differs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::source::probes) struct Program {
    pub(in crate::source::probes) pid: u32,
    /// Greater than the images before it.
    pub(in crate::source::probes) image: u64,
}

/// Where the name of a span is: the address is 0 if there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::source::probes) struct NameAt {
    pub(in crate::source::probes) program: Program,
    pub(in crate::source::probes) address: u64,
}

/// The members of `programs` that still run: the latest image of each pid, if that process exists.
pub(in crate::source::probes) fn running(programs: impl Iterator<Item = Program>) -> HashSet<Program> {
    let mut latest: HashMap<u32, u64> = HashMap::new();
    for Program { pid, image } in programs {
        let latest = latest.entry(pid).or_default();
        *latest = image.max(*latest);
    }
    let latest = latest.into_iter().map(|(pid, image)| Program { pid, image });
    latest.filter(|program| Path::new(&format!("/proc/{}", program.pid)).exists()).collect()
}
