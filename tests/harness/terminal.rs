//! A program in a terminal of its own, whose screen is read and whose keys are pressed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use vt100::Parser;

use crate::{Process, wait_until};

nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

/// A screen is drawn in several writes, within this time.
const SETTLED: Duration = Duration::from_millis(300);

/// A terminal with a program in it. Dropping the value kills the program.
pub struct Terminal {
    child: Process,
    master: File,
    screen: Arc<Mutex<Shown>>,
    /// Ends the thread that reads.
    is_closed: Arc<AtomicBool>,
    reader: thread::JoinHandle<()>,
}

/// What was written to the terminal.
struct Shown {
    parser: Parser,
    bytes: Vec<u8>,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Starts a program in a terminal of so many columns and rows.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let pty = openpty(Some(&size(columns, rows)), None).unwrap();
        // Otherwise the program would hold its own terminal open.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        command.stdin(stdio(&pty.slave)).stdout(stdio(&pty.slave)).stderr(stdio(&pty.slave));
        command.env("TERM", "xterm-256color").env("TZ", "UTC").env_remove("NO_COLOR").env_remove("COLUMNS");
        #[allow(unsafe_code)]
        // SAFETY: `setsid` and `ioctl` may be called between fork and exec, and no memory is allocated.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                // Makes the pty the terminal of the new session, so that it gets SIGHUP when the terminal goes away.
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = Process(command.spawn().unwrap());
        // The command has copies of the terminal's end, which would keep it from being closed.
        drop((command, pty.slave));
        let master = File::from(pty.master);
        let parser = Parser::new(rows, columns, 0);
        let screen = Arc::new(Mutex::new(Shown { parser, bytes: Vec::new() }));
        let (mut read, shown) = (master.try_clone().unwrap(), Arc::clone(&screen));
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 65536];
            loop {
                let mut input = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
                let is_ready = poll(&mut input, PollTimeout::from(20_u8)).is_ok_and(|ready| ready > 0);
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                if !is_ready {
                    continue;
                }
                // A terminal whose program has ended reports an error.
                let Ok(count @ 1..) = read.read(&mut bytes) else { return };
                let mut shown = shown.lock().unwrap();
                shown.parser.process(&bytes[..count]);
                shown.bytes.extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, master, screen, is_closed, reader }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// The text on the screen, without blanks at the ends of lines.
    pub fn text(&self) -> String {
        let contents = self.screen.lock().unwrap().parser.screen().contents();
        contents.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// Waits until the screen has this text, and returns the screen.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as wanted, and returns it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let is_shown = || {
            screen = self.text();
            is_wanted(&screen)
        };
        let wait = std::panic::AssertUnwindSafe(|| wait_until(&format!("the screen has {what}"), is_shown));
        if let Err(cause) = std::panic::catch_unwind(wait) {
            eprintln!("the screen is\n{screen}");
            std::panic::resume_unwind(cause);
        }
        screen
    }

    /// Waits until the screen has this text and does not change any more, and returns it.
    #[track_caller]
    pub fn settled(&self, text: &str) -> String {
        let mut screen = self.wait_for(text);
        loop {
            sleep(SETTLED);
            let next = self.wait_for(text);
            if next == screen {
                return screen;
            }
            screen = next;
        }
    }

    /// Whether the screen is one that is given back at the end.
    pub fn is_alternate(&self) -> bool {
        self.screen.lock().unwrap().parser.screen().alternate_screen()
    }

    /// All that was written.
    pub fn bytes(&self) -> Vec<u8> {
        self.screen.lock().unwrap().bytes.clone()
    }

    /// Gives the terminal another size, and tells the program.
    pub fn resize(&self, columns: u16, rows: u16) {
        // A program draws the whole screen again. The parser has no screen of one column or row.
        self.screen.lock().unwrap().parser = Parser::new(rows.max(2), columns.max(2), 0);
        #[allow(unsafe_code)]
        // SAFETY: the file is open, and the size lives until the call returns.
        unsafe { set_size(self.master.as_raw_fd(), &size(columns, rows)) }.unwrap();
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes the terminal away, as when its window is closed. Returns whether the program ends then.
    pub fn close(self) -> bool {
        let Self { mut child, master, is_closed, reader, .. } = self;
        is_closed.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        drop(master);
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            sleep(Duration::from_millis(20));
        }
        false
    }

    /// Waits until the program has ended. Returns its exit status, and what is on the screen then.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // What was written last is read by then.
        sleep(SETTLED);
        (status.unwrap(), self.text())
    }
}
