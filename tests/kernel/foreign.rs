//! Programs without the layer that have OpenTelemetry's thread context.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use e2e::{Process, Spantap, cargo, need, program};

use crate::found::{Found, Spans};
use crate::worker::{Output, file_on_a_disk};
use crate::{repeat_if_unreported, with_kernel};

/// The option with which an executable exports the variable.
const EXPORT: &str = "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1";

/// The options for a library with the variable.
const LIBRARY: [&str; 3] = ["-DLIBRARY", "-shared", "-fPIC"];

/// The program that has the variable itself.
pub(crate) fn compile_executable(folder: &Path) -> PathBuf {
    compile(&folder.join("executable"), &[EXPORT])
}

fn compile(to: &Path, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/foreign.c");
    let compiled =
        Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(to).arg(source).args(flags).output().unwrap();
    assert!(compiled.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&compiled.stderr));
    to.to_owned()
}

/// Another implementation of the thread context, as a static library.
fn libdd(folder: &Path) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/libdd/Cargo.toml");
    let mut cargo = cargo();
    cargo
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(folder);
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join("debug/liblibdd.a")
}

/// A program with spantap attached to it.
pub(crate) struct Foreign {
    pub(crate) child: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    spantap: Spantap,
    output: Output,
}

impl Foreign {
    fn attach(command: &mut Command) -> Self {
        Self::attach_with(command, &[])
    }

    pub(crate) fn attach_with(command: &mut Command, args: &[&str]) -> Self {
        let mut child = Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        assert_eq!(line(&mut stdout), "ready");
        let output = Output::new();
        let (pid, to) = (child.id().to_string(), output.to());
        let args = [&["--pid", &*pid, "--min", "0us", "--to", &*to], args].concat();
        let spantap = Spantap::attach_with(&args, &[]);
        Self { child, stdin, stdout, spantap, output }
    }

    pub(crate) fn begin(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        line(&mut self.stdout)
    }

    fn ask(&mut self, command: &str) -> String {
        self.begin(command);
        self.answer()
    }

    pub(crate) fn run(&mut self, command: &str, answer: &str) {
        assert_eq!(self.ask(command), answer);
    }

    /// Runs a command that answers with numbers.
    pub(crate) fn numbers<const N: usize>(&mut self, command: &str) -> [u64; N] {
        self.begin(command);
        self.answered()
    }

    /// The numbers with which a command answers.
    pub(crate) fn answered<const N: usize>(&mut self) -> [u64; N] {
        let answer = self.answer();
        let numbers = answer.strip_suffix(" done").unwrap_or_else(|| panic!("{answer:?}")).split(' ');
        let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap_or_else(|numbers| panic!("{numbers:?}"))
    }

    pub(crate) fn end(mut self) -> (Spans, String) {
        drop(self.stdin);
        assert!(self.child.wait().unwrap().success());
        let ended = self.spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        (self.output.spans(), ended.stderr)
    }
}

fn line(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Two threads sleep for 20 ms and then 60 ms in one span, and for 40 ms in another; and then for longer in none, in one whose
/// record is not valid, and in one that is not sampled.
fn assert_right(spans: &Spans) {
    let sleeps_of = |id: &str| -> Vec<&Found> {
        spans.0.iter().filter(|span| span.parent == id && span.name == "sleep").collect()
    };
    for (id, expected) in [("aaaaaaaaaaaaaaaa", vec![20, 20, 60, 60]), ("bbbbbbbbbbbbbbbb", vec![40, 40])] {
        let mut ms: Vec<u64> = sleeps_of(id).iter().map(|sleep| sleep.duration_ns() / 1_000_000).collect();
        ms.sort_unstable();
        let are_right = ms.len() == expected.len()
            && ms.iter().zip(&expected).all(|(ms, expected)| (*expected..expected + 100).contains(ms));
        assert!(are_right, "{id}: {ms:?} instead of {expected:?}: {:#?}", spans.0);
    }
    for span in &spans.0 {
        assert!(span.is_kernels && span.trace == "11".repeat(16), "{span:#?}");
        assert!(["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"].contains(&&*span.parent), "{span:#?}");
        assert_eq!(span.service, "in C");
    }
}

/// The trace ids and the span ids of the program's two spans.
pub(crate) const FIRST: (&str, &str) = ("11111111111111111111111111111111", "aaaaaaaaaaaaaaaa");
const SECOND: (&str, &str) = ("22222222222222222222222222222222", "bbbbbbbbbbbbbbbb");

pub(crate) fn below<'a>(spans: &'a Spans, (trace, parent): (&str, &str), name: &str) -> Vec<&'a Found> {
    let is_below = |span: &&Found| span.trace == trace && span.parent == parent && span.name == name;
    spans.0.iter().filter(is_below).collect()
}

/// Nothing is below anything but the two spans; and what is has this process' resource.
#[track_caller]
pub(crate) fn assert_are_in_spans(spans: &Spans) {
    for span in &spans.0 {
        assert!([FIRST, SECOND].contains(&(&*span.trace, &*span.parent)), "{span:#?}");
        assert!(span.is_kernels && span.service == "in C" && span.number("thread.id") > 0, "{span:#?}");
        assert!(span.start_ns <= span.end_ns, "{span:#?}");
    }
}

/// Runs `test` with a program that has the variable, and with one that has loaded a library with it.
fn with_programs(test: impl Fn(&dyn Fn() -> Command)) {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        let folder = tempfile::tempdir().unwrap();
        let in_executable = compile_executable(folder.path());
        let library = compile(&folder.path().join("library.so"), &LIBRARY);
        let loads = compile(&folder.path().join("loads"), &["-DLOADS"]);
        for arguments in [&[in_executable][..], &[loads, library]] {
            test(&|| {
                let mut command = Command::new(&arguments[0]);
                command.args(&arguments[1..]);
                command
            });
        }
    });
}

/// Repeated if the kernel did not report the end of a write.
#[test]
fn block_io_of_any_program_is_below_its_spans() {
    with_programs(|program| {
        repeat_if_unreported(|| {
            let file = file_on_a_disk();
            let mut foreign = Foreign::attach_with(&mut program(), &["--kernel", "block"]);
            foreign.run(&format!("disk {}", file.path().display()), "done");
            let (spans, _) = foreign.end();
            assert_are_in_spans(&spans);
            for (parent, pieces) in [(FIRST, 4), (SECOND, 2)] {
                let writes = below(&spans, parent, "block write");
                assert!(writes.len() >= pieces, "a sync for each of {pieces}: {writes:#?}");
                let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
                // And some for the file system itself.
                let written = (pieces as u64) << 16;
                assert!((written..3 * written).contains(&bytes), "{bytes} of {written}: {writes:#?}");
                assert!(writes.iter().all(|write| !write.text("system.device").is_empty()), "{writes:#?}");
            }
        });
    });
}

#[test]
fn connections_of_any_program_are_below_its_spans() {
    with_programs(|program| {
        let mut foreign = Foreign::attach_with(&mut program(), &["--kernel", "net"]);
        let [port] = foreign.numbers("talk");
        let (spans, _) = foreign.end();
        assert_are_in_spans(&spans);
        let connects = below(&spans, FIRST, "tcp connect");
        let errors: Vec<&str> = connects.iter().map(|connect| connect.text("error.type")).collect();
        assert_eq!(errors, ["", "ECONNREFUSED"], "{connects:#?}");
        for connect in &connects {
            assert_eq!(connect.text("network.peer.address"), "127.0.0.1", "{connect:#?}");
            assert_eq!(connect.number("network.peer.port"), port, "{connect:#?}");
            assert!(connect.duration_ns() > 0, "{connect:#?}");
        }
        let local = connects[0].number("network.local.port");
        let bytes = |close: &Found| {
            (close.number("kernel.tcp.sent_bytes"), close.number("kernel.tcp.received_bytes"))
        };
        let [close] = below(&spans, FIRST, "tcp close")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!((bytes(close), close.number("network.local.port")), ((1000, 6), local), "{close:#?}");
        let [accept] = below(&spans, SECOND, "tcp accept")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!(accept.number("network.local.port"), port, "{accept:#?}");
        assert_eq!(accept.number("network.peer.port"), local, "{accept:#?}");
        let [close] = below(&spans, SECOND, "tcp close")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!((bytes(close), close.number("network.peer.port")), ((6, 1000), local), "{close:#?}");
        assert_ne!(accept.number("thread.id"), connects[0].number("thread.id"), "different threads");
    });
}

#[test]
fn children_of_any_program_are_below_its_spans() {
    with_programs(|program| {
        let mut foreign = Foreign::attach_with(&mut program(), &["--kernel", "exec"]);
        let [lived_ns] = foreign.numbers("children");
        let (spans, _) = foreign.end();
        assert_are_in_spans(&spans);
        let ends = |parent| -> Vec<_> {
            let children = below(&spans, parent, "exec").into_iter();
            let end = |child: &Found| {
                let path = child.text("kernel.exec.path").rsplit('/').next().unwrap().to_owned();
                (path, child.number_of("kernel.exec.exit_code"), child.number_of("kernel.exec.signal"))
            };
            children.map(end).collect()
        };
        assert_eq!(ends(FIRST), [("sh".to_owned(), Some(7), None)], "{:#?}", spans.0);
        let expected = [("sleep".to_owned(), Some(0), None), ("sh".to_owned(), None, Some(9))];
        assert_eq!(ends(SECOND), expected, "{:#?}", spans.0);
        let slept = below(&spans, SECOND, "exec")[0];
        assert!((300_000_000..=lived_ns).contains(&slept.duration_ns()), "{lived_ns}: {slept:#?}");
        assert_eq!(spans.0.len(), 3, "{:#?}", spans.0);
    });
}

#[test]
fn system_calls_of_any_program_are_below_its_spans() {
    with_programs(|program| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("written").display().to_string();
        let mut foreign = Foreign::attach_with(&mut program(), &["--kernel", "syscall"]);
        let [file, slept_ns] = foreign.numbers(&format!("calls {path}"));
        let (spans, _) = foreign.end();
        assert_are_in_spans(&spans);
        let opens = below(&spans, FIRST, "syscall openat");
        let results = |key| -> Vec<&str> { opens.iter().map(|open| open.text(key)).collect() };
        assert_eq!(results("kernel.syscall.path"), ["/nowhere/to/be/found", &path], "{opens:#?}");
        assert_eq!(results("kernel.syscall.error"), ["ENOENT", ""], "{opens:#?}");
        let [write] = below(&spans, FIRST, "syscall write")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!((write.number("kernel.syscall.fd"), write.text("kernel.syscall.path")), (file, "written"));
        assert_eq!(write.number("kernel.syscall.result"), 1, "{write:#?}");
        let [connect] = below(&spans, FIRST, "syscall connect")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!(connect.text("network.peer.address"), "127.0.0.1", "{connect:#?}");
        assert_eq!(connect.number("network.peer.port"), 9, "{connect:#?}");
        let parents = [FIRST, SECOND].map(|parent| below(&spans, parent, "syscall getppid").len());
        assert_eq!(parents, [100, 1], "{:#?}", spans.0);
        let [sleep] = below(&spans, SECOND, "syscall clock_nanosleep")[..] else { panic!("{:#?}", spans.0) };
        assert!((20_000_000..=slept_ns).contains(&sleep.duration_ns()), "{slept_ns}: {sleep:#?}");
        assert!(spans.0.iter().all(|span| span.name != "syscall close"), "{:#?}", spans.0);
    });
}

/// Repeated if the kernel did not report a switch.
#[test]
fn what_the_kernel_does_in_the_spans_of_any_program_is_shown() {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        let folder = tempfile::tempdir().unwrap();
        let in_executable = compile_executable(folder.path());
        let library = compile(&folder.path().join("library.so"), &LIBRARY);
        let dialect = if cfg!(target_arch = "x86_64") { "-mtls-dialect=gnu2" } else { "-mtls-dialect=desc" };
        let descriptor = compile(&folder.path().join("descriptor.so"), &[&LIBRARY[..], &[dialect]].concat());
        let loads = compile(&folder.path().join("loads"), &["-DLOADS"]);
        let linked = [&*libdd(folder.path()).display().to_string(), EXPORT, "-DLINKED", "-ldl", "-lm"];
        let linked = compile(&folder.path().join("linked"), &linked);
        let ways =
            [(&in_executable, None), (&loads, Some(library)), (&loads, Some(descriptor)), (&linked, None)];
        for (executable, library) in ways {
            repeat_if_unreported(|| {
                let mut foreign = Foreign::attach(Command::new(executable).args(&library));
                foreign.run("go", "done");
                let (spans, stderr) = foreign.end();
                assert!(stderr.contains("OpenTelemetry's thread context"), "{stderr}");
                assert_right(&spans);
            });
        }
    });
}

/// Each finds all. Repeated if the kernel did not report a switch.
#[test]
fn two_spantaps_follow_any_program() {
    with_programs(|program| {
        repeat_if_unreported(|| {
            let mut foreign = Foreign::attach(&mut program());
            let (pid, output) = (foreign.child.id().to_string(), Output::new());
            let other = ["--pid", &pid, "--min", "0us", "--to", &output.to()];
            let other = Spantap::attach_with(&other, &[]);
            foreign.run("go", "done");
            let (spans, _) = foreign.end();
            let ended = other.wait();
            assert!(ended.status.success(), "{ended:?}");
            assert_right(&spans);
            assert_right(&output.spans());
        });
    });
}

/// The variable may be anywhere else then.
#[test]
fn a_program_that_is_executed_is_not_taken_for_the_one_before() {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let folder = tempfile::tempdir().unwrap();
            // At the same address each time.
            let executable = compile(&folder.path().join("executable"), &[EXPORT, "-no-pie"]);
            let mut foreign = Foreign::attach(&mut Command::new(executable));
            foreign.run("go", "done");
            foreign.run("exec", "ready");
            // spantap looks once a second.
            (0..4).for_each(|_| foreign.run("go", "done"));
            let (spans, stderr) = foreign.end();
            assert_right(&spans);
            assert_eq!(stderr.matches("has executed another program").count(), 1, "{stderr}");
        });
    });
}

#[test]
fn a_program_that_does_not_export_the_variable_is_told_how() {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        let folder = tempfile::tempdir().unwrap();
        let executable = compile(&folder.path().join("executable"), &[]);
        let mut child =
            Process(Command::new(executable).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let pid = child.id().to_string();
        let output = Command::new(program("spantap")).args(["attach", "--pid", &pid]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{stderr}");
        assert!(stderr.contains(EXPORT), "{stderr}");
    });
}
