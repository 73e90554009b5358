//! What is mapped in the memory of a process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io, str};

/// A line of `maps`.
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where it begins in its file.
    pub(crate) offset: u64,
    pub(crate) file: MappedFile,
    /// The path of its file, or its name.
    pub(crate) name: PathBuf,
    pub(crate) is_code: bool,
    pub(crate) is_writable: bool,
}

/// Identifies the file of a mapping.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(crate) struct MappedFile {
    device: String,
    /// 0 without a file.
    pub(crate) inode: u64,
}

/// All that is mapped, given the folder of the process in `/proc`.
pub(crate) fn mappings(process: &Path) -> io::Result<Vec<Mapping>> {
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
        file: MappedFile { device: device.to_owned(), inode },
        name: Path::new(OsStr::from_bytes(words.next().unwrap_or_default().trim_ascii_start())).to_owned(),
        is_code: permissions.contains('x'),
        is_writable: permissions.contains('w'),
    })
}

impl Mapping {
    /// The link to its file, which leads there even if the file was replaced or deleted. Following it takes root.
    pub(crate) fn link(&self, process: &Path) -> PathBuf {
        // Unlike in `maps`, addresses have no leading zeros here.
        process.join(format!("map_files/{:x}-{:x}", self.start, self.end))
    }

    /// The file, as it is now: by the link, or without the right to follow that by its path.
    pub(crate) fn metadata(&self, process: &Path) -> io::Result<fs::Metadata> {
        fs::metadata(self.link(process)).or_else(|_| fs::metadata(self.path(process)))
    }

    /// Opens its file, also if that was replaced or deleted. Without the right to do so, the file at its path, if it is
    /// still the same.
    pub(crate) fn open(&self, process: &Path) -> io::Result<fs::File> {
        fs::File::open(self.link(process)).or_else(|error| match fs::metadata(self.path(process)) {
            Ok(found) if found.ino() == self.file.inode => fs::File::open(self.path(process)),
            _ => Err(error),
        })
    }

    /// The path at which its file was mapped, through the root of the process.
    pub(crate) fn path(&self, process: &Path) -> PathBuf {
        process.join("root").join(self.name.strip_prefix("/").unwrap_or(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_maps() {
        let line = b"7f00-00a000 r-xp 00002000 fd:1234567 42                     /a b/lib\xff.so (deleted)\r";
        let found = mapping(line).expect("a mapping");
        assert_eq!((found.start, found.end, found.offset), (0x7f00, 0xa000, 0x2000));
        assert_eq!(found.file, MappedFile { device: "fd:1234567".to_owned(), inode: 42 });
        assert_eq!(found.name.as_os_str().as_bytes(), b"/a b/lib\xff.so (deleted)\r");
        assert!(found.is_code);
        assert_eq!(found.link(Path::new("/proc/1")), Path::new("/proc/1/map_files/7f00-a000"));
        let path = found.path(Path::new("/proc/1"));
        assert_eq!(path.as_os_str().as_bytes(), b"/proc/1/root/a b/lib\xff.so (deleted)\r");

        let name = |line: &[u8]| mapping(line).map(|found| (found.name, found.file.inode, found.is_code));
        assert_eq!(name(b"1-2 rw-p 0 00:00 0      [heap]"), Some(("[heap]".into(), 0, false)));
        assert_eq!(name(b"1-2 rw-p 0 00:00 0 "), Some(("".into(), 0, false)));
        assert_eq!(name(b""), None);
        assert_eq!(name(b"no mapping"), None);
    }
}
