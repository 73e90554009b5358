//! Begins a new file when a capture is large or old. `CAPTURE` is always the newest; `CAPTURE.1` is the one before it,
//! and so on.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::frame::Found;
use super::scan::{Next, Scan};

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

    /// Renames the files, and removes those that are too old. Can be repeated after an error.
    pub(super) fn rotate(&self, path: &Path) -> io::Result<()> {
        if self.keep == 0 {
            existing(fs::remove_file(path))?;
        } else {
            // Files behind a gap stay where they are.
            let is_free = |number: &u32| numbered(path, *number).symlink_metadata().is_err();
            let free = (1..self.keep).find(is_free).unwrap_or(self.keep);
            for number in (1..free).rev() {
                existing(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
            }
            existing(fs::rename(path, numbered(path, 1)))?;
        }
        // An earlier recording may have kept more. Whatever can't be read does not keep this one from going on.
        for number in older(path).unwrap_or_default().into_iter().filter(|number| *number > self.keep) {
            let file = numbered(path, number);
            if is_capture(&file).unwrap_or(false) {
                existing(fs::remove_file(file))?;
            }
        }
        Ok(())
    }

    /// Checks that [`rotate`](Self::rotate) will rename and replace nothing but captures.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        // A folder that can't be listed may still be one to record to.
        for number in older(path).unwrap_or_default().into_iter().filter(|number| *number <= self.keep) {
            let file = numbered(path, number);
            let shown = file.display();
            let is_capture = is_capture(&file).with_context(|| format!("can't read {shown}"))?;
            ensure!(
                is_capture,
                "{shown} is not a capture, and would be replaced when a new file begins: rename it, or choose another path"
            );
        }
        Ok(())
    }
}

/// The numbers of the older files that exist.
fn older(path: &Path) -> io::Result<Vec<u32>> {
    let Some(name) = path.file_name() else { return Ok(Vec::new()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let suffix = entry.as_bytes().strip_prefix(name.as_bytes()).and_then(|of| of.strip_prefix(b"."));
        let number = suffix.and_then(|of| std::str::from_utf8(of).ok()?.parse::<u32>().ok());
        // Only as spantap writes it, so not `.01` or `.0`.
        numbers.extend(number.filter(|of| *of > 0 && suffix == Some(of.to_string().as_bytes())));
    }
    Ok(numbers)
}

/// Whether a file is a capture, of any version, also if it is damaged.
pub(crate) fn is_capture(path: &Path) -> io::Result<bool> {
    if !path.metadata()?.is_file() {
        return Ok(false);
    }
    let (file, mut scan) = (File::open(path)?, Scan::default());
    let end = file.metadata()?.len();
    Ok(scan.found_at(&file, 0, end)? != Found::Other || scan.search(&file, 0, end)? != Next::None(end))
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
    use crate::capture::encode;
    use crate::capture::tests::{request, span};

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

    fn capture(number: u64) -> Vec<u8> {
        encode(request(&[span(1, number, 5..9)])).unwrap()
    }

    #[test]
    fn renames_no_more_files_than_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spans");
        for number in 0..3 {
            fs::write(&path, number.to_string()).unwrap();
            Rotation { keep: u32::MAX, ..Rotation::default() }.rotate(&path).unwrap();
        }
        let read = |number: u32| fs::read_to_string(numbered(&path, number)).unwrap();
        assert_eq!([1, 2, 3].map(read), ["2", "1", "0"]);
    }

    #[test]
    fn removes_captures_that_an_earlier_recording_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spans");
        fs::write(&path, capture(0)).unwrap();
        for suffix in ["1", "2", "3", "7"] {
            fs::write(folder.path().join(format!("a.spans.{suffix}")), capture(9)).unwrap();
        }
        for suffix in ["8", "04", "5.gz", "x"] {
            fs::write(folder.path().join(format!("a.spans.{suffix}")), "notes").unwrap();
        }
        Rotation { keep: 2, ..Rotation::default() }.rotate(&path).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|of| of.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a.spans.04", "a.spans.1", "a.spans.2", "a.spans.5.gz", "a.spans.8", "a.spans.x"]);
    }

    #[test]
    fn files_that_are_no_captures_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spans");
        fs::write(numbered(&path, 1), capture(1)).unwrap();
        fs::write(numbered(&path, 2), "notes").unwrap();
        let check = |keep| Rotation { keep, ..Rotation::default() }.check(&path);
        assert!(check(1).is_ok());
        let error = check(2).unwrap_err().to_string();
        assert!(error.contains("a.spans.2 is not a capture"), "{error}");
        // A damaged capture is one.
        fs::write(numbered(&path, 2), [b"oops", &capture(1)[..]].concat()).unwrap();
        assert!(check(2).is_ok());
    }
}
