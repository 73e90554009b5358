//! Detects when a process that sends spans executes another program. `exec` runs no exit handlers, so the spans that the
//! layer had queued are lost and not counted, unless the layer delayed the `exec`, which it can't do for every way to
//! execute a program.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::executable::program_name;
use super::image::Image;
use super::sender::Sender;

/// The most processes that are watched.
const MAX_PROCESSES: usize = 1000;

/// The program of each process that sends spans.
#[derive(Default, Debug)]
pub(crate) struct Programs(Mutex<HashMap<Sender, Program>>);

#[derive(Debug)]
struct Program {
    name: String,
    image: Image,
    /// Whether an `exec` of this process was reported.
    is_reported: bool,
}

/// The folder of the process in `/proc`.
fn folder(sender: Sender) -> PathBuf {
    format!("/proc/{}", sender.pid).into()
}

impl Programs {
    fn known(&self) -> MutexGuard<'_, HashMap<Sender, Program>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a process from which spans came. Returns a notice if it has executed another program.
    pub(crate) fn check(&self, sender: Sender) -> Option<String> {
        let mut known = self.known();
        if let Some(program) = known.get_mut(&sender) {
            return program.check(sender);
        }
        let image = Image::of(&folder(sender))?;
        if known.len() < MAX_PROCESSES {
            let name = program_name(&folder(sender)).unwrap_or_default();
            known.insert(sender, Program { name, image, is_reported: false });
        }
        None
    }

    /// Checks all known processes and returns the notices. Forgets processes that have ended.
    pub(crate) fn check_all(&self) -> Vec<String> {
        let mut notices = Vec::new();
        self.known().retain(|sender, program| {
            notices.extend(program.check(*sender));
            folder(*sender).exists()
        });
        notices
    }
}

impl Program {
    fn check(&mut self, sender: Sender) -> Option<String> {
        let image = Image::of(&folder(sender)).filter(|image| *image != self.image)?;
        let is_another_process = !image.is_same_process(&self.image);
        let name = program_name(&folder(sender)).unwrap_or_default();
        let before = std::mem::replace(&mut self.name, name);
        self.image = image;
        if is_another_process || std::mem::replace(&mut self.is_reported, true) {
            return None;
        }
        let now = if self.name == before { "itself again".to_owned() } else { self.name.clone() };
        Some(format!(
            "{before} ({sender}) has executed {now}: spans that it closed right before may be lost. They are \
             safe if it called Handle::flush, or uses glibc and not fexecve"
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    /// Starts a shell, lets it run `script`, and returns the notices of `check_all` and then of `check`. The script
    /// prints a line when it has done its work.
    fn notices_after(script: &str) -> (Vec<String>, Vec<String>) {
        let mut shell = Command::new("sh")
            .args(["-c", &format!("echo ready; read line; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap()).lines();
        output.next().unwrap().unwrap();
        let (programs, sender) = (Programs::default(), Sender { pid: shell.id(), uid: 0, gid: 0 });
        assert_eq!((programs.check(sender), programs.check(sender)), (None, None));
        assert_eq!(programs.check_all(), [""; 0]);
        writeln!(shell.stdin.as_mut().unwrap(), "go").unwrap();
        output.next().unwrap().unwrap();
        let notices = (programs.check_all(), programs.check(sender).into_iter().collect());
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(programs.check_all(), [""; 0]);
        assert!(programs.known().is_empty(), "a process that has ended is forgotten");
        notices
    }

    #[test]
    fn an_exec_is_reported_once() {
        let (first, second) = notices_after("exec env sh -c 'echo ready; read line; read line'");
        assert_eq!((first.len(), second.len()), (1, 0));
        assert!(first[0].contains("has executed itself again: "), "{first:?}");
        let (first, _) = notices_after("exec python3 -c 'print(1, flush=True); input()'");
        assert!(first[0].contains(") has executed python"), "{first:?}");
    }

    #[test]
    fn a_program_that_starts_others_is_not_reported() {
        assert_eq!(notices_after("sh -c 'echo ready'; echo again; read line; read line"), (vec![], vec![]));
    }
}
