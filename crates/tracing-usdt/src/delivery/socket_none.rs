//! Where there are no Unix sockets: says so once, and every span is a counted loss.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::stats::Outcome;
use crate::error::{Error, Reporter};

pub(super) struct Socket {
    path: PathBuf,
}

impl Socket {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn try_connect(&self, reporter: &Reporter) {
        let (path, source) = (self.path.clone(), io::ErrorKind::Unsupported.into());
        reporter.report(Error::Connect { path, source });
    }

    pub(super) fn send(&self, _: &[u8], _: Duration, _: &Reporter) -> Outcome {
        Outcome::NoReceiver
    }
}
