//! Opens a file to read spans from. What can be read only once, such as a pipe, is copied first.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Opens a file for [`Capture::from_file`](super::Capture::from_file). `-` is the standard input.
///
/// A pipe is copied to a temporary file without a name, up to its end, so that it can be read more than once. This
/// takes as much space in the folder for temporary files as there is in the pipe.
///
/// # Errors
///
/// When the file can't be opened or copied, or is neither a regular file nor a pipe. A pipe without a writer is an error,
/// too, instead of a wait for one.
pub fn open(path: &Path) -> Result<File> {
    let context = || format!("can't read {}", shown(path));
    let is_stdin = path.as_os_str() == "-";
    let file = match is_stdin {
        true => File::from(stdin().as_fd().try_clone_to_owned().with_context(context)?),
        // Opening a pipe otherwise waits for a writer.
        false => {
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).with_context(context)?
        }
    };
    let kind = file.metadata().with_context(context)?.file_type();
    match () {
        () if kind.is_file() => Ok(file),
        () if kind.is_dir() => bail!("{}: it is a folder; give the files in it", context()),
        () if kind.is_fifo() || (is_stdin && kind.is_socket()) => copy(file, is_stdin).with_context(context),
        () => bail!("{}: it is neither a regular file nor a pipe", context()),
    }
}

/// The path for messages.
pub(super) fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "the standard input".into() } else { path.display().to_string() }
}

fn copy(mut pipe: File, is_stdin: bool) -> Result<File> {
    let mut first = [0];
    let mut read = 0;
    if !is_stdin {
        read = match pipe.read(&mut first) {
            Ok(0) => bail!("it is a pipe that no program writes to; start that program first"),
            Ok(read) => read,
            // Someone is going to write.
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => 0,
            Err(cause) => return Err(cause.into()),
        };
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL).map_err(io::Error::from)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
    }
    let copied = tempfile::tempfile().and_then(|mut file| {
        file.write_all(&first[..read])?;
        io::copy(&mut pipe, &mut file)?;
        file.rewind()?;
        Ok(file)
    });
    copied.context("can't copy it to a temporary file; TMPDIR chooses the folder")
}
