//! What is mapped in the memory of a process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io, str};

/// A line of `maps`.
pub(super) struct Mapping {
    pub(super) start: u64,
    end: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// The device and the inode of its file. Without a file, the inode is 0.
    pub(super) file: (String, u64),
    /// The path of its file, or its name.
    pub(super) name: PathBuf,
    pub(super) is_code: bool,
}

/// All that is mapped, given the folder of the process in `/proc`.
pub(super) fn mappings(process: &Path) -> io::Result<Vec<Mapping>> {
    let maps = fs::read(process.join("maps"))?;
    Ok(maps.split(|byte| *byte == b'\n').filter_map(mapping).collect())
}

/// `start-end perms offset dev inode name`
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || words.next().and_then(|word| str::from_utf8(word).ok());
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let ((start, end), permissions) = (word()?.split_once('-')?, word()?);
    let (offset, device, inode) = (number(word()?)?, word()?, word()?.parse().ok()?);
    Some(Mapping {
        start: number(start)?,
        end: number(end)?,
        offset,
        file: (device.to_owned(), inode),
        name: Path::new(OsStr::from_bytes(words.next().unwrap_or_default().trim_ascii_start())).to_owned(),
        is_code: permissions.contains('x'),
    })
}

impl Mapping {
    /// The link to its file, which leads there even if the file was replaced or deleted. Following it takes root.
    pub(super) fn link(&self, process: &Path) -> PathBuf {
        // Unlike in `maps`, addresses have no leading zeros here.
        process.join(format!("map_files/{:x}-{:x}", self.start, self.end))
    }

    /// The path at which its file was mapped, through the root of the process.
    pub(super) fn path(&self, process: &Path) -> PathBuf {
        process.join("root").join(self.name.strip_prefix("/").unwrap_or(&self.name))
    }
}
