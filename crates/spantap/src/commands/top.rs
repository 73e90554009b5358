//! `spantap top`: as `listen`, `run` or `attach`, on a full screen; or the spans of files.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::attach::attach;
use super::block_on;
use super::cli::{Attach, AttachTo, Color, Common, Display, Listen, Run, Top, TopFrom};
use super::collect::{FullScreen, Output};
use super::listen::listen;
use super::run::run;
use super::signals::Blocked;
use crate::source::Folder;
use crate::terminal::{Screen, Stream};
use crate::text::safe;
use crate::top::{FromFiles, Way};

/// How long the screen may take to end after a signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// What files of spans are called. A path that ends so and does not exist is a typing error, not a socket.
const FILES: [&str; 6] = ["spans", "json", "jsonl", "pb", "proto", "otlp"];

/// Shows the screen until the user quits, a signal asks for the end, or the program ends.
///
/// # Errors
///
/// When there is no terminal, or what the command for this source fails with.
pub(super) fn top(top: Top) -> Result<ExitCode> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!(
            "top needs a terminal for its input and output; spantap view and spantap graph write to a file or a pipe"
        );
    }
    let Top {
        from: TopFrom { paths, pid, exe, command },
        speed,
        follow,
        output,
        access,
        tap,
        forwarding,
        otlp,
        color,
    } = top;
    if let Some(path) = paths.first().filter(|_| paths.len() > 1 || paths.iter().any(|path| is_file(path))) {
        let is_kept = !forwarding.sampling.keep.is_empty();
        if !forwarding.to.is_empty() || forwarding.metrics.is_some() || is_kept {
            bail!(
                "{} is a file: its spans are shown, and not forwarded or served as metrics",
                path.display()
            );
        }
        if !otlp.otlp.is_empty() {
            bail!("{} is a file; --otlp is for spans that arrive", path.display());
        }
        let way = match speed {
            _ if follow => Way::Follow,
            Some(speed) => Way::Replay(speed),
            None => Way::AtOnce,
        };
        return files(paths, way, color);
    }
    if speed.is_some() || follow {
        bail!("--speed and --follow are for files; from a socket, spans are shown as they arrive");
    }
    let (quit, quits) = oneshot::channel();
    let also = otlp.title();
    let common = Common { forwarding, display: Display { quiet: false, ..Display::none(color) }, otlp };
    let output_of = |source: String| Output {
        top: Some(FullScreen { source, quit }),
        quits: Some(quits),
        ..Output::default()
    };
    match (paths.into_iter().next(), pid, exe) {
        (_, Some(pid), _) => {
            let to = AttachTo { pid: Some(pid), exe: None };
            let output = output_of(format!("pid {pid}"));
            block_on(attach(Attach { to, tap, common }, Blocked::ending()?, output))
        }
        (_, _, Some(exe)) => {
            let output = output_of(exe.display().to_string());
            let to = AttachTo { pid: None, exe: Some(exe) };
            block_on(attach(Attach { to, tap, common }, Blocked::ending()?, output))
        }
        (socket, ..) if socket.is_some() || command.is_empty() => {
            let named = socket.iter().map(|socket| socket.display().to_string());
            let output = output_of(named.chain(also).collect::<Vec<_>>().join(", "));
            block_on(listen(Listen { socket, access, common }, Blocked::ending()?, output))
        }
        _ => {
            let source = command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
            let of_program = Some(open_output(output.as_deref())?);
            let output = Output { of_program, ..output_of(source) };
            block_on(run(Run { common, command }, Blocked::all()?, Folder::new()?, output))
        }
    }
}

/// Whether a path is a file of spans: one that exists and is no socket, or has the name of one.
fn is_file(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    match path.metadata() {
        Ok(metadata) => !metadata.file_type().is_socket(),
        Err(_) => {
            // An older part of a recording has a number at its end.
            let is_number = |end: &OsStr| end.to_str().is_some_and(|end| end.parse::<u32>().is_ok());
            let older = path.extension().filter(|end| is_number(end)).map(|_| path.with_extension(""));
            let name = older.as_deref().unwrap_or(path);
            name.extension().is_some_and(|end| FILES.iter().any(|known| end == *known))
        }
    }
}

fn open_output(path: Option<&Path>) -> Result<File> {
    let path = path.unwrap_or(Path::new("/dev/null"));
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("can't write the program's output to {}", path.display()))
}

fn files(paths: Vec<PathBuf>, way: Way, color: Color) -> Result<ExitCode> {
    // What can't be opened is an error before the screen is taken over.
    for path in &paths {
        let context = || format!("can't read {}", path.display());
        // A pipe must not be opened twice.
        if path.metadata().with_context(context)?.is_file() {
            File::open(path).with_context(context)?;
        }
    }
    let screen = Screen::new(Stream::Stdout, color.into());
    let has_ended = Arc::new(AtomicBool::new(false));
    let top = FromFiles { paths, way, colour: screen.colour(), has_ended: Arc::clone(&has_ended) };
    let blocked = Blocked::ending()?;
    block_on(async move {
        let mut signals = blocked.read()?;
        let mut shown = spawn_blocking(|| top.run());
        let shown = tokio::select! {
            shown = &mut shown => shown,
            _ = signals.next() => {
                has_ended.store(true, Ordering::Relaxed);
                // A terminal that is paused takes nothing, and never ends.
                match timeout(PATIENCE, shown).await {
                    Ok(shown) => shown,
                    Err(_) => return Ok(ExitCode::FAILURE),
                }
            }
        };
        let mut err = io::stderr().lock();
        for line in shown.context("the screen's thread panicked")?? {
            let _ = writeln!(err, "spantap: {}", safe(&line));
        }
        Ok(ExitCode::SUCCESS)
    })
}
