//! Whether a process that reported open spans still runs the same program.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::process::{self, Image, Sender};

#[derive(Debug)]
pub(super) enum Life {
    Known {
        of: process::Life,
        folder: PathBuf,
        /// `None` if it can't be read. Then it is not known whether the process executes another program.
        image: Option<Image>,
    },
    /// It had ended before its report was read.
    Ended,
    /// It is in a pid namespace that is not visible from ours.
    Unknown,
}

impl Life {
    pub(super) fn of(sender: Sender) -> Self {
        if sender.pid == 0 {
            return Self::Unknown;
        }
        let folder = PathBuf::from(format!("/proc/{}", sender.pid));
        match process::Life::of(sender.pid) {
            Ok(of) => Self::Known { of, image: Image::of(&folder), folder },
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Ended,
            Err(_) => Self::Unknown,
        }
    }

    /// Whether the process has ended or executed another program.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Known { of, folder, image } => {
                let has_executed = || {
                    let now = image.and_then(|_| Image::of(folder));
                    now.is_some() && now != *image
                };
                of.has_ended() || has_executed()
            }
            Self::Ended => true,
            Self::Unknown => false,
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}
