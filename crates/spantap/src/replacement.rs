//! Files that are replaced as a whole: whoever reads one meanwhile has the one before, and after an error it is still there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The names of all replacements that are not finished. Locked while one is created, finished or removed.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all replacements that are not finished, before a signal ends the process. None can be created or finished after that:
/// whoever tries waits for the end.
pub(crate) fn abandon_all() {
    let unfinished = unfinished();
    unfinished.iter().for_each(|new| _ = fs::remove_file(new));
    std::mem::forget(unfinished);
}

/// A file that takes the place of another one, or of none, once it is finished; otherwise it is removed. What is no file, such as a
/// pipe, is written to at once.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    path: PathBuf,
    /// Its name until it is finished.
    new: Option<PathBuf>,
}

/// What a name stands for, so that two names of one file are equal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It is there: its device and inode.
    Taken(u64, u64),
    /// Nothing is there: the name, in a folder that is no link.
    Free(PathBuf),
}

impl Place {
    /// What is open.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|file| Self::taken(&file))
    }

    /// What has this name, after links.
    pub(crate) fn named(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(file) => Ok(Self::taken(&file)),
            Err(_) => in_real_folder(path).map(Self::Free),
        }
    }

    fn taken(file: &fs::Metadata) -> Self {
        Self::Taken(file.dev(), file.ino())
    }
}

impl Replacement {
    /// A replacement of `file`, with its permissions. If there is none yet, with `mode`, as far as the umask allows it.
    pub(crate) fn of(file: &Path, mode: u32) -> io::Result<Self> {
        let before = fs::metadata(file).ok();
        if before.as_ref().is_some_and(|before| !before.is_file()) {
            let opened = OpenOptions::new().write(true).open(file)?;
            return Ok(Self { file: opened, path: file.to_owned(), new: None });
        }
        // A link stays a link.
        let path = fs::canonicalize(file).or_else(|_| in_real_folder(file))?;
        let mut new = OsString::from(&path);
        new.push(format!(".{}.new", std::process::id()));
        let new = PathBuf::from(new);
        // It follows no link, and overwrites nothing.
        let mut options = OpenOptions::new();
        let mode = if before.is_some() { 0o600 } else { mode };
        let mut unfinished = unfinished();
        let created = options.write(true).create_new(true).mode(mode).open(&new)?;
        unfinished.push(new.clone());
        drop(unfinished);
        let created = Self { file: created, path, new: Some(new) };
        if let Some(before) = before {
            created.file.set_permissions(before.permissions())?;
        }
        Ok(created)
    }

    /// Another handle of the file. `None` if it is no file.
    pub(crate) fn file(&self) -> Option<io::Result<File>> {
        self.new.as_ref().map(|_| self.file.try_clone())
    }

    /// Puts it in its place.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(new) = &self.new {
            let mut unfinished = unfinished();
            fs::rename(new, &self.path)?;
            unfinished.retain(|other| other != new);
            self.new = None;
        }
        Ok(())
    }
}

/// A name that is not there, with its folder's real name.
fn in_real_folder(file: &Path) -> io::Result<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(fs::canonicalize(folder)?.join(name))
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(new) = self.new.take() {
            let mut unfinished = unfinished();
            let _ = fs::remove_file(&new);
            unfinished.retain(|other| *other != new);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::fs::{create_dir, read_dir, read_to_string, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn it_is_there_only_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        write(&path, "before").unwrap();
        set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a", &link).unwrap();
        let mut dropped = Replacement::of(&link, 0o600).unwrap();
        dropped.write_all(b"never").unwrap();
        drop(dropped);
        assert_eq!(
            (read_to_string(&path).unwrap(), read_dir(folder.path()).unwrap().count()),
            ("before".into(), 2)
        );
        let mut replacement = Replacement::of(&link, 0o600).unwrap();
        replacement.write_all(b"after").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "before");
        replacement.finish().unwrap();
        assert_eq!(
            (read_to_string(&path).unwrap(), read_dir(folder.path()).unwrap().count()),
            ("after".into(), 2)
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        let new = folder.path().join("new");
        Replacement::of(&new, 0o600).unwrap().finish().unwrap();
        assert_eq!(new.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_names_of_one_file_are_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        create_dir(path("real")).unwrap();
        symlink("real", path("linked")).unwrap();
        let place = |name: &str| Place::named(&path(name)).unwrap();
        assert_eq!(place("real/a"), place("linked/../linked/./a"));
        assert_ne!(place("real/a"), place("real/b"));
        write(path("real/a"), "").unwrap();
        fs::hard_link(path("real/a"), path("b")).unwrap();
        symlink("real/a", path("c")).unwrap();
        assert_eq!([place("real/a"), place("b")], [place("linked/a"), place("c")]);
        assert_eq!(place("b"), Place::of(&File::open(path("c")).unwrap()).unwrap());
    }
}
