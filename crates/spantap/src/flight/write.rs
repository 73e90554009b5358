//! Writes a capture as a whole, under a name that no file has yet, and removes the oldest ones.
//!
//! Until a file is whole, it is `.CAPTURE-XXXXXX.part`, locked (`flock`). What a crash has left is not locked any more.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use crate::capture::{give_to_user, is_capture};

/// How a time is written in a name, in UTC, so that names sort by time.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// The ending of a file that is being written, and the number of random characters before it.
const PART: &str = ".part";
const RANDOM: usize = 6;

/// A file that is not locked and younger than this may be locked in a moment.
const UNLOCKED: Duration = Duration::from_secs(60);

/// The names of the files: `CAPTURE`, and with a time `CAPTURE-20261130T162005Z`; the ending stays an ending.
#[derive(Debug)]
pub(super) struct Names {
    path: PathBuf,
    folder: PathBuf,
    stem: String,
    ending: String,
    /// Of a file that is being written.
    prefix: String,
}

impl Names {
    /// # Errors
    ///
    /// When `path` is that of a folder, or no file can be made beside it.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::Error::other("it is a folder: give a file in it"));
        }
        let text = |part: Option<&std::ffi::OsStr>| part.map(|of| of.to_string_lossy().into_owned());
        let stem = text(path.file_stem()).ok_or_else(|| io::Error::other("it has no file name"))?;
        let ending = text(path.extension()).map(|of| format!(".{of}")).unwrap_or_default();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let names = Self { path: path.to_owned(), folder, prefix: format!(".{stem}-"), stem, ending };
        // Found out now, not when the spans matter.
        names.temporary()?;
        // What is left of a crash does no harm but take room.
        let _ = names.remove_abandoned();
        Ok(names)
    }

    /// Writes a file of these frames, and returns its path. All of it is on the disk then.
    ///
    /// # Errors
    ///
    /// When it can't be written. Then there is no file.
    pub(super) fn write(&self, frames: &[Bytes], now: Timestamp) -> io::Result<PathBuf> {
        let mut file = self.temporary()?;
        // Unlocked when the file has its name.
        let _lock = lock(file.as_file().try_clone()?)?;
        give_to_user(file.as_file());
        frames.iter().try_for_each(|frame| file.write_all(frame))?;
        file.as_file().sync_all()?;
        let with_time = (1..).map(|number| self.with_time(now, number));
        for path in std::iter::once(self.path.clone()).chain(with_time) {
            match file.persist_noclobber(&path) {
                Ok(_) => {
                    // The name is on the disk then, too. Some file systems can't do that; the file is there in any case.
                    let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
                    return Ok(path);
                }
                Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => file = failed.file,
                Err(failed) => return Err(failed.error),
            }
        }
        Err(io::Error::other("all names are taken"))
    }

    /// Removes the oldest captures with a time in their name, until `keep` are left, at least one. `CAPTURE` itself stays, and so
    /// does `newest`, whatever the clock said when the others were written.
    pub(super) fn prune(&self, keep: usize, newest: &Path) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if let Some(order) = name.to_str().and_then(|name| self.order(name)) {
                found.push((order, self.folder.join(name)));
            }
        }
        // Newer ones count, whoever wrote them; what is no capture is left alone.
        found.retain(|(_, path)| path != newest && is_capture(path).unwrap_or(false));
        found.sort();
        let surplus = (found.len() + usize::from(newest != self.path)).saturating_sub(keep.max(1));
        found.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// A file with only its owner's permissions, which is removed if it is not given another name.
    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(&self.prefix).suffix(PART).rand_bytes(RANDOM).tempfile_in(&self.folder)
    }

    /// Removes the temporary files of earlier runs that crashed. Another run may be writing one.
    fn remove_abandoned(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let random = entry.file_name().to_str().and_then(|name| {
                let random = name.strip_prefix(&*self.prefix)?.strip_suffix(PART)?;
                Some(random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            });
            let metadata = entry.metadata()?;
            let is_old = metadata.modified()?.elapsed().is_ok_and(|age| age > UNLOCKED);
            if random != Some(true) || !metadata.is_file() || !is_old {
                continue;
            }
            if let Ok(_lock) = File::open(entry.path()).and_then(lock) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The name with a time; `number` tells those of the same second apart.
    fn with_time(&self, now: Timestamp, number: u32) -> PathBuf {
        let (stem, ending, time) = (&self.stem, &self.ending, now.strftime(TIME));
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        self.folder.join(format!("{stem}-{time}{number}{ending}"))
    }

    /// The time in a name that [`with_time`](Self::with_time) has made, and the number behind it.
    fn order(&self, name: &str) -> Option<(String, u32)> {
        let name = name.strip_prefix(&*self.stem)?.strip_prefix('-')?.strip_suffix(&*self.ending)?;
        let (time, number) = match name.split_once('-') {
            Some((time, number)) => (time, number.parse().ok()?),
            None => (name, 1),
        };
        let civil = jiff::civil::DateTime::strptime(TIME.trim_end_matches('Z'), time.strip_suffix('Z')?);
        (civil.is_ok() && time.len() == 16).then(|| (time.to_owned(), number))
    }
}

/// # Errors
///
/// When another has locked it.
fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-30T16:20:05.7Z".parse().unwrap()
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn no_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::new(&folder.path().join("crash.spans")).unwrap();
        assert_eq!(files(folder.path()), [""; 0], "nothing is left of the check");
        for (number, expected) in
            ["crash.spans", "crash-20261130T162005Z.spans", "crash-20261130T162005Z-2.spans"]
                .iter()
                .enumerate()
        {
            let content = format!("frames of {number}");
            let path = names.write(&[Bytes::from("frames "), format!("of {number}").into()], now()).unwrap();
            assert_eq!(path, folder.path().join(expected));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(files(folder.path()).len(), 3);
        let plain = Names::new(&folder.path().join("crash")).unwrap();
        assert_eq!(plain.write(&[], now()).unwrap(), folder.path().join("crash"));
        assert_eq!(plain.write(&[], now()).unwrap(), folder.path().join("crash-20261130T162005Z"));
    }

    #[test]
    fn the_oldest_captures_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::new(&folder.path().join("crash.spans")).unwrap();
        let frame = Bytes::from(crate::capture::encode(Bytes::new()).unwrap());
        let at = |second: i64| now() + jiff::SignedDuration::from_secs(second);
        for second in 0..6 {
            names.write(std::slice::from_ref(&frame), at(second)).unwrap();
        }
        let newest = names.write(std::slice::from_ref(&frame), at(5)).unwrap();
        let others = ["crash-notes.spans", "crash-20261130T1620.spans", "crash-20261130T162000Z.spans"];
        others.iter().for_each(|name| fs::write(folder.path().join(name), "mine").unwrap());
        names.prune(3, &newest).unwrap();
        let mut expected = vec![
            "crash.spans",
            "crash-20261130T162009Z.spans",
            "crash-20261130T162010Z.spans",
            "crash-20261130T162010Z-2.spans",
        ];
        expected.extend(others);
        expected.sort_unstable();
        assert_eq!(files(folder.path()), expected);
        // The clock was set back.
        let newest = names.write(std::slice::from_ref(&frame), at(-60)).unwrap();
        names.prune(1, &newest).unwrap();
        assert!(newest.exists());
        assert_eq!(files(folder.path()).len(), 2 + others.len());
    }

    #[test]
    fn what_a_crash_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let hour_ago = std::time::SystemTime::now() - 60 * UNLOCKED;
        let others =
            [".crash-aBc123.other", ".crash-other-aBc123.part", ".crash-notes.part", "crash-aBc123.part"];
        for name in others.iter().chain(&[".crash-aBc123.part", ".crash-inUse1.part"]) {
            File::create(folder.path().join(name)).unwrap().set_modified(hour_ago).unwrap();
        }
        File::create(folder.path().join(".crash-young1.part")).unwrap();
        let _in_use = lock(File::open(folder.path().join(".crash-inUse1.part")).unwrap()).unwrap();
        Names::new(&folder.path().join("crash.spans")).unwrap();
        let mut expected = [&others[..], &[".crash-inUse1.part", ".crash-young1.part"]].concat();
        expected.sort_unstable();
        assert_eq!(files(folder.path()), expected);
    }

    #[test]
    fn paths_without_a_place_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Names::new(folder.path()).is_err());
        assert!(Names::new(&folder.path().join("missing/crash.spans")).is_err());
    }
}
