//! Begins a new file when a capture is large or old. `CAPTURE` is always the newest; `CAPTURE.1` is the one before it,
//! and so on.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default for the most bytes of a capture.
pub const MAX_BYTES: u64 = 1 << 30;
/// The default for the number of older files.
pub const KEEP: u32 = 1;

/// When a new file begins, and how many older ones are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// The most bytes of a file. A file has at least one frame, whatever its size.
    pub max_bytes: u64,
    /// The time from the first frame of a file to the first of the next. `None` for no limit.
    pub max_age: Option<Duration>,
    /// The most files beside the newest.
    pub keep: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_bytes: MAX_BYTES, max_age: None, keep: KEEP }
    }
}

impl Rotation {
    /// Whether a file of `length` that began at `began_ns` is to be followed by another before `added` bytes are
    /// appended at `now_ns`.
    pub(super) fn is_due(&self, length: u64, began_ns: Option<u64>, added: u64, now_ns: u64) -> bool {
        let is_old = |began: u64| {
            let age = u128::from(now_ns.saturating_sub(began));
            self.max_age.is_some_and(|most| age >= most.as_nanos())
        };
        length > 0 && (length + added > self.max_bytes || began_ns.is_some_and(is_old))
    }

    /// Renames the files, so that the oldest is replaced. Can be repeated after an error.
    pub(super) fn rotate(&self, path: &Path) -> io::Result<()> {
        if self.keep == 0 {
            return existing(fs::remove_file(path));
        }
        for number in (1..self.keep).rev() {
            existing(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
        }
        existing(fs::rename(path, numbered(path, 1)))
    }
}

/// The path of an older file: `CAPTURE.NUMBER`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Accepts that the file does not exist.
fn existing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|cause| if cause.kind() == ErrorKind::NotFound { Ok(()) } else { Err(cause) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_due_by_size_and_by_age() {
        let second = 1_000_000_000;
        let rotation = Rotation { max_bytes: 100, max_age: Some(Duration::from_secs(10)), keep: KEEP };
        let cases = [
            ((0, None, 1_000, 0), false), // a frame has to go somewhere
            ((90, Some(0), 10, 0), false),
            ((90, Some(0), 11, 0), true),
            ((90, Some(5), 1, 10 * second), false),
            ((90, Some(5), 1, 10 * second + 5), true),
            ((90, None, 1, 10 * second), false),
            ((90, Some(5), 1, 0), false), // a clock that was set back
        ];
        for ((length, began, added, now), expected) in cases {
            assert_eq!(
                rotation.is_due(length, began, added, now),
                expected,
                "{length} {began:?} {added} {now}"
            );
        }
        let unlimited = Rotation { max_age: None, ..rotation };
        assert!(!unlimited.is_due(90, Some(0), 10, u64::MAX));
    }

    #[test]
    fn keeps_the_newest_files() {
        for keep in [0, 1, 3] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.spans");
            for number in 0..6 {
                fs::write(&path, number.to_string()).unwrap();
                Rotation { keep, ..Rotation::default() }.rotate(&path).unwrap();
            }
            let read = |number| fs::read_to_string(numbered(&path, number)).ok();
            let kept: Vec<String> = (1..10).map_while(read).collect();
            let expected: Vec<String> =
                (0..6).rev().take(keep as usize).map(|of: u32| of.to_string()).collect();
            assert_eq!(kept, expected, "{keep}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), keep as usize);
        }
    }
}
