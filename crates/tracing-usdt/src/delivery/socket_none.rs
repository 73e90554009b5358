//! The socket on platforms without Unix sockets: opening it reports an error, and a value of it can't exist.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::stats::Outcome;
use crate::error::{Error, Reporter};

pub(super) struct Socket(Infallible);

impl Socket {
    pub(super) fn open(path: PathBuf, reporter: &Reporter) -> Option<Self> {
        reporter.report(Error::Connect { path, source: io::ErrorKind::Unsupported.into() });
        None
    }

    pub(super) fn path(&self) -> &Path {
        match self.0 {}
    }

    pub(super) fn report_too_large(&self, _: usize, _: &Reporter) {
        match self.0 {}
    }

    pub(super) fn retry_at_once(&self) {
        match self.0 {}
    }

    pub(super) fn was_connected(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn is_connected(&self, _: &Reporter) -> bool {
        match self.0 {}
    }

    pub(super) fn send(&self, _: &[u8], _: Duration, _: &Reporter) -> Outcome {
        match self.0 {}
    }
}
