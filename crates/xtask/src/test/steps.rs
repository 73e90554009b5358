//! Runs checks one after the other. At the end, shows which failed, how long each took, and what was skipped.

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{Started, capture, cargo};
use crate::setup;
use crate::terminal::{Colour, Terminal};
use crate::toolchains::{Installed, Toolchain};

/// A check that takes longer counts as hung.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

const SKIPPED: &str = "skipped";
const NOTES: &str = "notes";

pub(super) struct Steps {
    pub(super) root: PathBuf,
    /// The toolchain of checks that need no other; none is the toolchain that runs `cargo xtask`.
    pub(super) default: Option<Installed>,
    /// Reasons why something was not checked.
    skipped: Vec<String>,
    /// What was checked with limitations.
    notes: Vec<String>,
    /// The folder in which tests append skipped checks to `SKIPPED`, and notes that fail nothing to `NOTES`.
    reports: PathBuf,
    terminal: Terminal,
    done: Vec<Done>,
}

struct Done {
    name: String,
    passed: bool,
    took: Duration,
}

impl Steps {
    pub(super) fn new(root: &Path, reports: &Path) -> Self {
        let (notes, skipped, done) = (Vec::new(), Vec::new(), Vec::new());
        let terminal = Terminal::of_stdout();
        let (root, reports) = (root.to_owned(), reports.to_owned());
        Self { root, default: None, skipped, notes, reports, terminal, done }
    }

    pub(super) fn heading(&self, name: &str) -> Result<()> {
        Ok(writeln!(stdout(), "{}", self.terminal.heading(name))?)
    }

    /// Runs cargo. A failure is reported at the end, so that one run finds all failures.
    pub(super) fn cargo(&mut self, name: &str, args: &[&str]) -> Result<()> {
        self.cargo_with(name, args, &[])
    }

    /// Runs cargo with additional environment variables.
    pub(super) fn cargo_with(&mut self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
        let selector = self.default.as_ref().and_then(Installed::selector);
        self.program(name, selector, args, env)
    }

    /// Runs the cargo of another toolchain.
    pub(super) fn cargo_by(
        &mut self,
        toolchain: &Installed,
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<()> {
        self.program(name, toolchain.selector(), args, env)
    }

    fn program(
        &mut self,
        name: &str,
        selector: Option<String>,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<()> {
        self.heading(name)?;
        // Not the cargo of `CARGO`, but rustup's proxy, because a check may need another toolchain.
        let mut cargo = cargo("cargo");
        cargo.args(selector).args(args).current_dir(&self.root);
        cargo.env("RUSTDOCFLAGS", "-D warnings").envs(env.iter().copied());
        cargo.env("TRACING_USDT_SKIPS", self.reports.join(SKIPPED));
        cargo.env("TRACING_USDT_NOTES", self.reports.join(NOTES));
        let begin = Instant::now();
        // A check that hangs fails, and the next one runs.
        let status = Started::spawn(name, &mut cargo).and_then(|mut cargo| cargo.wait(TIMEOUT));
        if let Err(error) = &status {
            writeln!(stdout(), "{error:#}")?;
        }
        self.done(name, status.is_ok_and(|status| status.success()), begin.elapsed())
    }

    /// Runs a check of this program, and returns its result if it passed.
    pub(super) fn own<T>(&mut self, name: &str, check: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.heading(name)?;
        let begin = Instant::now();
        let result = check();
        if let Err(error) = &result {
            writeln!(stdout(), "{error:#}")?;
        }
        self.done(name, result.is_ok(), begin.elapsed())?;
        Ok(result.ok())
    }

    fn done(&mut self, name: &str, passed: bool, took: Duration) -> Result<()> {
        let done = Done { name: name.to_owned(), passed, took };
        writeln!(stdout(), "\n{}", done.line(self.terminal))?;
        self.done.push(done);
        Ok(())
    }

    /// Reports, now and at the end, that something can't be checked.
    pub(super) fn skip(&mut self, why: String) {
        _ = writeln!(stdout(), "{}", self.terminal.paint(Colour::Red, &why));
        self.skipped.push(why);
    }

    /// Installs a toolchain if it is missing. None if it can't be installed.
    pub(super) fn toolchain(&mut self, toolchain: &Toolchain) -> Option<Installed> {
        match toolchain.ensure(&self.root) {
            Ok(mut installed) => {
                self.notes.append(&mut installed.notes);
                installed.missing.drain(..).for_each(|missing| self.skip(missing));
                Some(installed)
            }
            Err(why) => {
                self.skip(format!("{why:#}; what needs it is not checked"));
                None
            }
        }
    }

    pub(super) fn has_target(&self, target: &str) -> bool {
        self.default.as_ref().is_none_or(|toolchain| toolchain.has_target(target))
    }

    /// Installs something. Whether it is available now.
    pub(super) fn install(&mut self, what: &str, program: &str, args: &[&str]) -> bool {
        match setup::install_with(what, program, args, &self.root) {
            Ok(()) => true,
            Err(why) => {
                self.skip(format!("{why:#}; what needs it is not checked"));
                false
            }
        }
    }

    /// Runs a command that is no check, without showing its output. The error is the reason why it failed.
    pub(super) fn attempt(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(args).envs(env.iter().copied()).current_dir(&self.root);
        capture(&mut command, TIMEOUT).map(drop)
    }

    /// Shows a note at the end. It fails nothing.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn conclude(mut self) -> Result<()> {
        for (lines, file) in [(&mut self.skipped, SKIPPED), (&mut self.notes, NOTES)] {
            let by_tests = fs::read_to_string(self.reports.join(file)).unwrap_or_default();
            lines.extend(by_tests.lines().map(str::to_owned));
        }

        self.heading("result")?;
        let mut out = stdout().lock();
        for done in &self.done {
            writeln!(out, "  {}", done.line(self.terminal))?;
        }
        let total: Duration = self.done.iter().map(|done| done.took).sum();
        writeln!(out, "          {:>6.1} s  in all", total.as_secs_f64())?;
        for line in self.skipped.iter().chain(&self.notes) {
            writeln!(out, "  {}", self.terminal.paint(Colour::Red, line))?;
        }
        if self.skipped.is_empty() && self.notes.is_empty() {
            writeln!(out, "  nothing was skipped")?;
        }
        let failed: Vec<&str> =
            self.done.iter().filter(|done| !done.passed).map(|done| &*done.name).collect();
        writeln!(out, "\nchecks: {} passed, {} failed", self.done.len() - failed.len(), failed.len())?;
        if !failed.is_empty() {
            bail!("{} failed", failed.join(", "));
        }
        if !self.skipped.is_empty() && is_ci() {
            bail!("under CI no check may be skipped");
        }
        Ok(())
    }
}

pub(super) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !matches!(&*ci, "" | "0" | "false"))
}

impl Done {
    fn line(&self, terminal: Terminal) -> String {
        let (mark, colour) = if self.passed { ("passed", Colour::Green) } else { ("FAILED", Colour::Red) };
        format!("{}  {:>6.1} s  {}", terminal.paint(colour, mark), self.took.as_secs_f64(), self.name)
    }
}
