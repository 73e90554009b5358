//! Programs without the layer that have OpenTelemetry's thread context.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use e2e::{Process, Spantap, cargo, need, program};

use crate::found::{Found, Spans};
use crate::worker::Output;
use crate::{repeat_if_unreported, with_kernel};

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
struct Foreign {
    child: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    spantap: Spantap,
    output: Output,
}

impl Foreign {
    fn attach(command: &mut Command) -> Self {
        let mut child = Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        assert_eq!(line(&mut stdout), "ready");
        let output = Output::new();
        let (pid, to) = (child.id().to_string(), output.to());
        let spantap = Spantap::attach_with(&["--pid", &pid, "--min", "0us", "--to", &to], &[]);
        Self { child, stdin, stdout, spantap, output }
    }

    fn run(&mut self, command: &str, answer: &str) {
        writeln!(self.stdin, "{command}").unwrap();
        assert_eq!(line(&mut self.stdout), answer);
    }

    fn end(mut self) -> (Spans, String) {
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

/// Repeated if the kernel did not report a switch.
#[test]
fn what_the_kernel_does_in_the_spans_of_any_program_is_shown() {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        let folder = tempfile::tempdir().unwrap();
        let export = "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1";
        let in_executable = compile(&folder.path().join("executable"), &[export]);
        let library = compile(&folder.path().join("library.so"), &["-DLIBRARY", "-shared", "-fPIC"]);
        let dialect = if cfg!(target_arch = "x86_64") { "-mtls-dialect=gnu2" } else { "-mtls-dialect=desc" };
        let descriptor = ["-DLIBRARY", "-shared", "-fPIC", dialect];
        let descriptor = compile(&folder.path().join("descriptor.so"), &descriptor);
        let loads = compile(&folder.path().join("loads"), &["-DLOADS"]);
        let linked = [&*libdd(folder.path()).display().to_string(), export, "-DLINKED", "-ldl", "-lm"];
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

/// The variable may be anywhere else then.
#[test]
fn a_program_that_is_executed_is_not_taken_for_the_one_before() {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let folder = tempfile::tempdir().unwrap();
            let export = "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1";
            // At the same address each time.
            let executable = compile(&folder.path().join("executable"), &[export, "-no-pie"]);
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
        assert!(stderr.contains("-Wl,--export-dynamic-symbol=otel_thread_ctx_v1"), "{stderr}");
    });
}
