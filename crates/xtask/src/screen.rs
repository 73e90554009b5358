//! A program that draws on the whole screen, in a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::pty::{Winsize, openpty};
use vt100::{Parser, Screen};

use crate::process::Started;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A screen that stays the same for so long is complete: `spantap top` draws twice a second.
const SETTLED: Duration = Duration::from_millis(1200);

pub(crate) struct Program {
    process: Started,
    terminal: File,
    written: Arc<Mutex<Written>>,
    reader: JoinHandle<()>,
}

/// What the program has written so far.
struct Written {
    parser: Parser,
    bytes: usize,
    /// When the last of them came.
    at: Instant,
}

impl Program {
    /// Starts a program in a terminal of so many columns and lines.
    pub(crate) fn start(mut command: Command, columns: u16, lines: u16) -> Result<Self> {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).context("can't make a terminal")?;
        let stdio = |end: &OwnedFd| end.try_clone().map(Stdio::from);
        command
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(stdio(&pty.slave)?)
            .stdout(stdio(&pty.slave)?)
            .stderr(stdio(&pty.slave)?);
        let process = Started::spawn("the program in the terminal", &mut command)?;
        let terminal = File::from(pty.master);
        let parser = Parser::new(lines, columns, 0);
        let written = Arc::new(Mutex::new(Written { parser, bytes: 0, at: Instant::now() }));
        let (mut output, reading) = (terminal.try_clone()?, Arc::clone(&written));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            // A terminal whose program has ended reports an error.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let at = Instant::now();
                let mut written = lock(&reading);
                written.parser.process(&bytes[..count]);
                written.bytes += count;
                written.at = at;
            }
        });
        Ok(Self { process, terminal, written, reader })
    }

    pub(crate) fn process(&mut self) -> &mut Started {
        &mut self.process
    }

    pub(crate) fn press(&mut self, keys: &str) -> Result<()> {
        self.terminal.write_all(keys.as_bytes()).context("can't press a key")
    }

    /// What is on the screen now.
    pub(crate) fn screen(&self) -> Screen {
        lock(&self.written).parser.screen().clone()
    }

    /// How many bytes the program has written, and when the last of them came.
    pub(crate) fn written(&self) -> (usize, Instant) {
        let written = lock(&self.written);
        (written.bytes, written.at)
    }

    /// The screen, once it has all of these texts and does not change any more.
    pub(crate) fn settled(&self, texts: &[&str]) -> Result<Screen> {
        let deadline = Instant::now() + TIMEOUT;
        let (mut before, mut since) = (String::new(), Instant::now());
        loop {
            let screen = self.screen();
            let contents = screen.contents();
            if contents != before {
                (before, since) = (contents, Instant::now());
            } else if since.elapsed() > SETTLED && texts.iter().all(|text| before.contains(text)) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("the screen does not have all of {texts:?}; it has\n{before}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses `q`, waits for the end, and returns what is on the screen then.
    pub(crate) fn quit(mut self) -> Result<Screen> {
        self.press("q")?;
        let status = self.process.wait(TIMEOUT)?;
        self.reader.join().map_err(|_| anyhow!("the reader of the terminal panicked"))?;
        let screen = lock(&self.written).parser.screen().clone();
        ensure!(
            status.success(),
            "the program in the terminal failed ({status}); the screen has\n{}",
            screen.contents()
        );
        Ok(screen)
    }
}

fn lock(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}
