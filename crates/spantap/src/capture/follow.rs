//! Reads a file that is still written, and goes on with the next one when it is followed by another.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::damage::Damage;
use super::filter::Filter;
use super::read::{Capture, MIN_FOR_FORMAT, Spans, open};

/// A file that is read while it is written, as by `tail -F`.
///
/// What is not whole yet is no damage: the rest of it is read once it is there. When the path leads to another file, because
/// the recorder has begun a new one, the old one is read to its end first, and then all that came between: `PATH.2` and
/// `PATH.1`. A file that was truncated is read from its beginning.
///
/// ```no_run
/// use spantap::capture::{Filter, Follow};
/// # use std::time::Duration;
///
/// let mut follow = Follow::open("capture.spans".as_ref(), Filter::default())?;
/// loop {
///     match follow.next()? {
///         Some(spans) => println!("{} spans of {}", spans.iter().count(), spans.process.service),
///         // Nothing more yet.
///         None => std::thread::sleep(Duration::from_millis(200)),
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Follow {
    path: PathBuf,
    filter: Filter,
    file: File,
    /// `None` as long as the file is too short to tell its format.
    capture: Option<Capture>,
    /// The files that came after this one, the oldest first.
    next: VecDeque<File>,
    /// What was found in files that were read to their end.
    damage: Damage,
    lost: u64,
}

impl Follow {
    /// Opens a file, which may be empty.
    ///
    /// # Errors
    ///
    /// When the file can't be opened, is no regular file, or is none of spans.
    pub fn open(path: &Path, filter: Filter) -> Result<Self> {
        let file = open(path)?;
        let is_file = path.metadata().is_ok_and(|of| of.is_file());
        ensure!(is_file, "can't follow {}: it is no regular file; leave out --follow", path.display());
        let (next, damage, path) = (VecDeque::new(), Damage::default(), path.to_owned());
        let mut follow = Self { path, filter, file, capture: None, next, damage, lost: 0 };
        follow.find_format()?;
        Ok(follow)
    }

    /// The next spans. `None` if there are no more yet: call it again some time later.
    ///
    /// # Errors
    ///
    /// When the file can't be read any more.
    #[allow(clippy::should_implement_trait)] // an iterator would end here
    pub fn next(&mut self) -> Result<Option<Spans>> {
        loop {
            if let Some(spans) = self.capture.as_mut().and_then(Iterator::next) {
                return spans.map(Some);
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// Selects other spans from now on. Takes effect with the next frame that is read.
    pub fn set_filter(&mut self, filter: Filter) {
        self.capture = self.capture.take().map(|of| of.with_filter(filter.clone()));
        self.filter = filter;
    }

    /// What could not be read so far. The end of the newest file may not be whole.
    pub fn damage(&self) -> Damage {
        let mut damage = self.damage.clone();
        if let Some(capture) = &self.capture {
            damage.add_all(capture.damage());
        }
        damage
    }

    /// The spans that the traced programs have reported as lost, as far as the files were read.
    pub fn lost_by_senders(&self) -> u64 {
        self.capture.as_ref().map_or(0, Capture::lost_by_senders).saturating_add(self.lost)
    }

    /// At the end of a file: whether there is more to read.
    fn go_on(&mut self) -> Result<bool> {
        if self.capture.is_none() && self.find_format()? {
            return Ok(true);
        }
        if let Some(next) = self.next.pop_front() {
            self.begin(next);
            return Ok(true);
        }
        let ours = self.file.metadata().with_context(|| self.context())?;
        match self.path.metadata() {
            Ok(there) if identity(&there) == identity(&ours) => {
                let is_truncated = self.capture.as_ref().is_some_and(|of| ours.len() < of.position());
                if is_truncated {
                    let same = self.file.try_clone().with_context(|| self.context())?;
                    self.begin(same);
                }
                Ok(is_truncated)
            }
            Ok(_) => {
                self.next = successors(&self.path, &ours);
                // The recorder may have written to this file after its end was read, and before it was renamed. So
                // this one is read once more.
                Ok(!self.next.is_empty())
            }
            // It was renamed or removed, and the next one is not there yet.
            Err(_) => Ok(false),
        }
    }

    /// Begins to read another file.
    fn begin(&mut self, file: File) {
        self.damage = self.damage();
        self.lost = self.lost_by_senders();
        (self.file, self.capture) = (file, None);
    }

    /// Finds out the format, if that is not known and the file is long enough. Returns whether it is found now.
    fn find_format(&mut self) -> Result<bool> {
        let length = self.file.metadata().with_context(|| self.context())?.len();
        if self.capture.is_some() || length == 0 {
            return Ok(false);
        }
        let file = self.file.try_clone().with_context(|| self.context())?;
        match Capture::from_file(&self.path, file) {
            Ok(capture) => self.capture = Some(capture.with_filter(self.filter.clone())),
            // Its first bytes may be too few to tell.
            Err(_) if length < MIN_FOR_FORMAT => {}
            Err(error) => return Err(error),
        }
        Ok(self.capture.is_some())
    }

    fn context(&self) -> String {
        format!("can't read {}", self.path.display())
    }
}

/// The device and the number of a file.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// How often the files are looked for if they are renamed meanwhile, and the pause between two times.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// The files that came after `ours`, the oldest first.
fn successors(path: &Path, ours: &Metadata) -> VecDeque<File> {
    let identity_there = || path.metadata().ok().map(|of| identity(&of));
    let mut found = VecDeque::new();
    for _ in 0..TRIES {
        let before = identity_there();
        found = later(path, ours);
        // Otherwise the recorder has begun a new file meanwhile, and all the numbers are others.
        if before.is_some() && before == identity_there() {
            break;
        }
        sleep(PAUSE);
    }
    found
}

/// The files from the newest one back to `ours`, or, if that is removed or has another name, to the oldest that was written later.
///
/// A recorder renames the files to the next number, the oldest first, and `PATH` at last. So from low numbers to high ones, a file
/// may be seen twice, and there may be one gap, but no file is missed.
fn later(path: &Path, ours: &Metadata) -> VecDeque<File> {
    let mut files = VecDeque::new();
    let mut known = Vec::new();
    let mut has_gap = false;
    let numbered = |number: u32| {
        let mut name = OsString::from(path);
        name.push(format!(".{number}"));
        name.into()
    };
    let names = std::iter::once(path.to_owned()).chain((1..).map(numbered));
    for name in names {
        let Some((file, metadata)) = open(&name).ok().and_then(with_metadata) else {
            if std::mem::replace(&mut has_gap, true) {
                break;
            }
            continue;
        };
        // File systems round times to some milliseconds.
        let is_older = (metadata.mtime(), metadata.mtime_nsec()) < (ours.mtime(), ours.mtime_nsec());
        if is_older || identity(&metadata) == identity(ours) {
            break;
        }
        if !known.contains(&identity(&metadata)) {
            known.push(identity(&metadata));
            files.push_front(file);
        }
    }
    files
}

fn with_metadata(file: File) -> Option<(File, Metadata)> {
    let metadata = file.metadata().ok()?;
    Some((file, metadata))
}
