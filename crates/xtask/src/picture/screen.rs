//! A program that draws on the whole screen, in a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::pty::{Winsize, openpty};
use vt100::Parser;

use super::svg;
use crate::process::Started;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A screen that stays the same for so long is complete: `spantap top` draws twice a second.
const SETTLED: Duration = Duration::from_millis(1200);

pub(super) struct Program {
    program: Started,
    terminal: File,
    parser: Arc<Mutex<Parser>>,
}

impl Program {
    /// Starts a program in a terminal of so many columns and lines.
    pub(super) fn start(mut command: Command, columns: u16, lines: u16) -> Result<Self> {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).context("can't make a terminal")?;
        let stdio = |end: &OwnedFd| end.try_clone().map(Stdio::from);
        command
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(stdio(&pty.slave)?)
            .stdout(stdio(&pty.slave)?)
            .stderr(stdio(&pty.slave)?);
        let program = Started::spawn("the program in the terminal", &mut command)?;
        let terminal = File::from(pty.master);
        let parser = Arc::new(Mutex::new(Parser::new(lines, columns, 0)));
        let (mut output, written) = (terminal.try_clone()?, Arc::clone(&parser));
        thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            // A terminal whose program has ended reports an error.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&written).process(&bytes[..count]);
            }
        });
        Ok(Self { program, terminal, parser })
    }

    pub(super) fn press(&mut self, keys: &str) -> Result<()> {
        self.terminal.write_all(keys.as_bytes()).context("can't press a key")
    }

    /// Draws the screen, once it has all of these texts and does not change any more.
    pub(super) fn draw(&self, texts: &[&str]) -> Result<String> {
        let deadline = Instant::now() + TIMEOUT;
        let (mut before, mut since) = (String::new(), Instant::now());
        loop {
            let contents = lock(&self.parser).screen().contents();
            if contents != before {
                (before, since) = (contents, Instant::now());
            } else if since.elapsed() > SETTLED && texts.iter().all(|text| before.contains(text)) {
                return Ok(svg::draw(lock(&self.parser).screen()));
            }
            if Instant::now() > deadline {
                bail!("the screen does not have all of {texts:?}; it has\n{before}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses `q`, and waits for the end.
    pub(super) fn quit(mut self) -> Result<()> {
        self.press("q")?;
        let status = self.program.wait(TIMEOUT)?;
        ensure!(status.success(), "the program in the terminal failed ({status})");
        Ok(())
    }
}

fn lock(parser: &Mutex<Parser>) -> MutexGuard<'_, Parser> {
    parser.lock().unwrap_or_else(PoisonError::into_inner)
}
