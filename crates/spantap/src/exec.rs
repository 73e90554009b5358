//! Notices when a process that sends spans turns into another program. `exec` runs no exit handlers: what the layer had
//! queued is gone, uncounted, unless `exec` waited for it, which not all ways to execute a program do.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::executable::program_name;
use crate::process::Sender;

/// More processes than this are not watched.
const MOST: usize = 1000;

/// What each process runs that sends spans.
#[derive(Default, Debug)]
pub(crate) struct Programs(Mutex<HashMap<Sender, Program>>);

#[derive(Debug)]
struct Program {
    name: String,
    image: Image,
    is_told: bool,
}

/// Differs from program to program, also between two runs of the same file in one process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Image {
    /// Of the process, in clock ticks since boot: its pid may be given to another one.
    start_time: u64,
    /// Device and inode.
    file: (u64, u64),
    /// Where its stack begins, which is drawn at random.
    stack: u64,
}

impl Image {
    /// `process` is its folder in `/proc`. `None` if the process is gone, or can't be read now.
    pub(crate) fn of(process: &Path) -> Option<Self> {
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        let file = fs::metadata(process.join("exe")).ok()?;
        // The name in brackets may hold anything. proc_pid_stat(5) counts the fields from 1; behind the name is the third.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        // 0 while the process is executing a program.
        let stack = field(28).filter(|stack| *stack != 0)?;
        Some(Self { start_time: field(22)?, file: (file.dev(), file.ino()), stack })
    }
}

/// Where the kernel describes the process.
fn folder(sender: Sender) -> PathBuf {
    format!("/proc/{}", sender.pid).into()
}

impl Programs {
    fn known(&self) -> MutexGuard<'_, HashMap<Sender, Program>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a process from which spans came. What to say, if it has turned into another program.
    pub(crate) fn look_at(&self, sender: Sender) -> Option<String> {
        let mut known = self.known();
        if let Some(program) = known.get_mut(&sender) {
            return program.look(sender);
        }
        let image = Image::of(&folder(sender))?;
        if known.len() < MOST {
            let name = program_name(&folder(sender)).unwrap_or_default();
            known.insert(sender, Program { name, image, is_told: false });
        }
        None
    }

    /// The same for all that are known. Those that are gone are forgotten.
    pub(crate) fn look_at_all(&self) -> Vec<String> {
        let mut told = Vec::new();
        self.known().retain(|sender, program| {
            told.extend(program.look(*sender));
            folder(*sender).exists()
        });
        told
    }
}

impl Program {
    fn look(&mut self, sender: Sender) -> Option<String> {
        let image = Image::of(&folder(sender)).filter(|image| *image != self.image)?;
        let is_another_process = image.start_time != self.image.start_time;
        let name = program_name(&folder(sender)).unwrap_or_default();
        let before = std::mem::replace(&mut self.name, name);
        self.image = image;
        if is_another_process || std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let now = if self.name == before { "itself again".to_owned() } else { self.name.clone() };
        Some(format!(
            "{before} ({sender}) has executed {now}: spans that it closed right before may be lost, if it is linked with \
             another C library than glibc or used fexecve, and did not call Handle::flush"
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    /// A shell that says when it has become what it was asked to.
    fn reported_after(script: &str) -> (Vec<String>, Vec<String>) {
        let mut shell = Command::new("sh")
            .args(["-c", &format!("echo ready; read line; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap()).lines();
        said.next().unwrap().unwrap();
        let (programs, sender) = (Programs::default(), Sender { pid: shell.id(), uid: 0, gid: 0 });
        assert_eq!((programs.look_at(sender), programs.look_at(sender)), (None, None));
        assert_eq!(programs.look_at_all(), [""; 0]);
        writeln!(shell.stdin.as_mut().unwrap(), "go").unwrap();
        said.next().unwrap().unwrap();
        let told = (programs.look_at_all(), programs.look_at(sender).into_iter().collect());
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(programs.look_at_all(), [""; 0]);
        assert!(programs.known().is_empty(), "a process that is gone is forgotten");
        told
    }

    #[test]
    fn an_exec_is_reported_once() {
        let (told, again) = reported_after("exec env sh -c 'echo ready; read line; read line'");
        assert_eq!((told.len(), again.len()), (1, 0));
        assert!(told[0].contains("has executed itself again: "), "{told:?}");
        let (told, _) = reported_after("exec python3 -c 'print(1, flush=True); input()'");
        assert!(told[0].contains(") has executed python"), "{told:?}");
    }

    #[test]
    fn a_program_that_goes_on_is_not_reported() {
        assert_eq!(reported_after("sh -c 'echo ready'; echo again; read line; read line"), (vec![], vec![]));
    }
}
