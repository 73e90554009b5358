//! The processes that run beside the measured programs: a receiver that drains the socket, and a bpftrace for each
//! watched row. It attaches to a copy of the program that no other row runs.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::programs::{Programs, command};
use super::receiver::{Mode, Receiver};
use super::rows::{Around, ROWS, Row};
use crate::bpftrace::Bpftrace;
use crate::process::Folder;

pub(crate) struct Stage {
    pub(crate) programs: Programs,
    folder: Folder,
    receiver: Receiver,
    watches: Vec<Watch>,
    left_out: Vec<&'static str>,
    /// One line for each thing that could not be measured, with the reason.
    skipped: Vec<String>,
}

/// For each watched row, the part of its hits that bpftrace counted.
pub(crate) type Hits = Vec<(&'static str, f64)>;

struct Watch {
    row: &'static str,
    bpftrace: Bpftrace,
    hits_expected: u64,
}

impl Stage {
    pub(crate) fn set_up(programs: Programs) -> Result<Self> {
        let folder = Folder::new()?;
        let receiver = Receiver::start(&programs, Mode::Drain, folder.path(), "drain.sock")?;
        let mut stage = Self {
            programs,
            folder,
            receiver,
            watches: Vec::new(),
            left_out: Vec::new(),
            skipped: Vec::new(),
        };
        for row in &ROWS {
            let Around::Bpftrace(provider, probes) = row.around else { continue };
            stage.progress(&format!("attaching bpftrace for {}", row.name));
            match stage.watch(row, provider, probes) {
                Ok(watch) => stage.watches.push(watch),
                Err(why) => stage.leave_out(row, &format!("{why:#}")),
            }
        }
        Ok(stage)
    }

    fn watch(&self, row: &Row, provider: &str, probes: &[&str]) -> Result<Watch> {
        let program = self.path("span", row);
        self.copy(&self.programs.path("span"), &program)?;
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let probes: Vec<String> =
            probes.iter().map(|probe| format!("usdt:./{name}:{provider}:{probe}")).collect();
        let script = format!("{} {{ @hits = count(); }}", probes.join(", "));
        let bpftrace = Bpftrace::attach(&script, self.folder(), "bench")?;
        Ok(Watch { row: row.key, bpftrace, hits_expected: 0 })
    }

    /// A copy of a program, which nothing else runs.
    pub(crate) fn copy_of(&self, program: &str, name: &str) -> Result<PathBuf> {
        let copy = self.folder().join(name);
        self.copy(&self.programs.path(program), &copy)?;
        Ok(copy)
    }

    fn copy(&self, original: &Path, copy: &Path) -> Result<()> {
        let copied = std::fs::copy(original, copy);
        copied.with_context(|| format!("can't copy {} to {}", original.display(), copy.display()))?;
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The rows that can be measured on this machine.
    pub(crate) fn rows(&self) -> Vec<&'static Row> {
        ROWS.iter().filter(|row| !self.left_out.contains(&row.key)).collect()
    }

    /// Excludes a row from the measurements that follow.
    pub(crate) fn leave_out(&mut self, row: &Row, why: &str) {
        self.left_out.push(row.key);
        self.skip(row.name, why);
    }

    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(format!("{what}: {why}"));
    }

    /// The path of a program for a row: a watched row has its own copy.
    pub(crate) fn path(&self, program: &str, row: &Row) -> PathBuf {
        if is_watched(row) {
            return self.folder().join(format!("{program}-{}", row.key.replace('+', "-")));
        }
        self.programs.path(program)
    }

    /// A command that runs `program` for a row.
    pub(crate) fn command(&self, program: &str, row: &Row) -> Command {
        let mut command = command(self.path(program, row));
        command.arg(row.variant);
        self.surround(&mut command, row);
        command
    }

    /// Sets the environment variables of the row's programs.
    pub(crate) fn surround(&self, command: &mut Command, row: &Row) {
        if let Around::Receiver(delivery) = row.around {
            command.env("TRACING_USDT_SOCKET", &self.receiver.socket);
            command.env("TRACING_USDT_DELIVERY", delivery);
        }
    }

    pub(crate) fn expect_hits(&mut self, row: &Row, hits: u64) {
        let watch = self.watches.iter_mut().find(|watch| watch.row == row.key);
        if let Some(watch) = watch {
            watch.hits_expected += hits;
        }
    }

    /// Ends the processes. Returns the hits, and what was skipped.
    pub(crate) fn finish(self) -> Result<(Hits, Vec<String>)> {
        let mut counted = Vec::new();
        for Watch { row, bpftrace, hits_expected } in self.watches {
            let output = bpftrace.finish()?;
            let hits = output.lines.iter().find_map(|line| line.strip_prefix("@hits: ")?.parse::<u64>().ok());
            let hits =
                hits.with_context(|| format!("bpftrace counted nothing for {row} ({})", output.end))?;
            counted.push((row, hits as f64 / hits_expected as f64));
        }
        self.receiver.finish()?;
        Ok((counted, self.skipped))
    }

    pub(crate) fn progress(&self, what: &str) {
        progress(what);
    }

    pub(crate) fn clear_progress(&self) {
        self.progress("");
    }
}

/// Shows the current step on a terminal, on a line that the next step overwrites.
pub(crate) fn progress(what: &str) {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K{what}");
    }
}

fn is_watched(row: &Row) -> bool {
    matches!(row.around, Around::Bpftrace(..))
}
