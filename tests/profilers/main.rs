//! The contexts of threads, read as a profiler reads them: by OpenTelemetry's OTEP 4947 and 4719, from outside, with nothing
//! of this project.
//!
//! `samples` looks at a thread at any instruction while it enters and exits spans.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod samples;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{Build, Fixture, Linkage, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

/// OpenTelemetry's `ProcessContext`, which its crate does not have yet.
#[derive(Clone, PartialEq, Message)]
struct ProcessContext {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    attributes: Vec<KeyValue>,
}

impl ProcessContext {
    fn text(&self, key: &str) -> String {
        match find(&self.resource.as_ref().unwrap().attributes, key) {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => panic!("{key}: {other:?}"),
        }
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> &'a Value {
    let attribute = attributes.iter().find(|attribute| attribute.key == key);
    attribute
        .and_then(|attribute| attribute.value.as_ref()?.value.as_ref())
        .unwrap_or_else(|| panic!("no {key}"))
}

/// A process as others see it.
struct Seen {
    pid: u32,
    /// The variable's distance from the thread pointer.
    offset: u64,
}

impl Seen {
    fn new(pid: u32, executable: &Path) -> Self {
        Self { pid, offset: offset(executable) }
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let memory = File::open(format!("/proc/{}/mem", self.pid)).unwrap();
        memory.read_exact_at(&mut bytes, address).unwrap();
        bytes
    }

    /// The trace id and the span id that the first thread says it is in.
    fn ids(&self) -> Option<String> {
        let record = u64::from_ne_bytes(self.read(thread_pointer(self.pid).wrapping_add(self.offset)));
        if record == 0 {
            return None;
        }
        assert_eq!(record % 2, 0, "aligned");
        let record: [u8; 28] = self.read(record);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(record[24..], [1, 3, 0, 0], "valid, sampled, with a random trace id, no attributes");
        Some(format!("{} {}", hex(&record[..16]), hex(&record[16..24])))
    }

    fn context(&self) -> Option<ProcessContext> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap();
        let mut named =
            maps.lines().filter(|line| line.contains("/memfd:OTEL_CTX") || line.contains("[anon:OTEL_CTX]"));
        let mapping = named.next()?;
        assert_eq!(named.next(), None, "a second mapping");
        let header = u64::from_str_radix(mapping.split_once('-').unwrap().0, 16).unwrap();
        assert_eq!(&self.read::<12>(header), b"OTEL_CTX\x02\0\0\0");
        let [size, _] = [12, 20].map(|at| u32::from_ne_bytes(self.read(header + at)));
        let [published_ns, payload] = [16, 24].map(|at| u64::from_ne_bytes(self.read(header + at)));
        assert!(published_ns > 0);
        let bytes: Vec<u8> = (0..size.into()).flat_map(|at| self.read::<1>(payload + at)).collect();
        Some(ProcessContext::decode(&*bytes).unwrap())
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where the variable is in a thread's memory: the executable's block ends at the thread pointer.
fn offset(executable: &Path) -> u64 {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let symbols = output(Command::new("readelf").args(["--dyn-syms", "--wide"]).arg(executable));
    let symbol = symbols.lines().find(|line| line.ends_with(" otel_thread_ctx_v1"));
    let symbol: Vec<&str> = symbol.expect("it is exported").split_whitespace().collect();
    assert_eq!((symbol[2], symbol[3]), ("8", "TLS"));
    let segments = output(Command::new("readelf").args(["--segments", "--wide"]).arg(executable));
    let segment = segments.lines().map(str::trim).find(|line| line.starts_with("TLS ")).unwrap();
    let segment: Vec<&str> = segment.split_whitespace().collect();
    let (size, align) = (hex(segment[5]), hex(segment.last().unwrap()));
    hex(symbol[1]).wrapping_sub(size.next_multiple_of(align))
}

/// The thread pointer of the first thread.
fn thread_pointer(pid: u32) -> u64 {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "printf \"thread pointer %lu\\n\", $fs_base", "-p", &pid.to_string()]);
    let printed = output(gdb.env_remove("DEBUGINFOD_URLS"));
    let line = printed.lines().find_map(|line| line.strip_prefix("thread pointer "));
    line.unwrap_or_else(|| panic!("{printed}")).parse().unwrap()
}

fn profiled(executable: &Path) -> (Fixture, Seen) {
    let fixture = Fixture::spawn(Command::new(executable).env("FIXTURE_PROFILED", ""), None);
    let seen = Seen::new(fixture.pid(), executable);
    (fixture, seen)
}

fn assert_seen(build: Build) {
    let executable = build.path(Linkage::Executable, 0);
    let (mut fixture, seen) = profiled(&executable);
    assert_eq!(seen.ids(), None, "{build:?}");
    let outer = fixture.run("enter");
    assert_eq!(outer.len(), 32 + 1 + 16, "{outer}");
    assert_eq!(seen.ids(), Some(outer.clone()), "{build:?}");
    let inner = fixture.run("enter");
    assert_eq!(seen.ids(), Some(inner.clone()), "{build:?}");
    fixture.run("leave");
    assert_eq!(seen.ids(), Some(outer), "{build:?}");
    let inner = fixture.run("enter");
    fixture.run("leave_first");
    assert_eq!(seen.ids(), Some(inner), "{build:?}");
    fixture.run("leave");
    assert_eq!(seen.ids(), None, "{build:?}");
    let context = seen.context().unwrap();
    assert_eq!(context.text("service.name"), "fixture");
    assert_eq!(context.text("process.pid"), fixture.pid().to_string());
    let schema = find(&context.attributes, "threadlocal.schema_version");
    assert_eq!(*schema, Value::StringValue("tlsdesc_v1_dev".to_owned()));
    let keys = find(&context.attributes, "threadlocal.attribute_key_map");
    assert_eq!(*keys, Value::ArrayValue(ArrayValue::default()));
    fixture.end();
}

#[test]
fn a_profiler_finds_the_innermost_span_of_a_thread() {
    if need(&["gdb", "readelf"]) {
        assert_seen(Build::Debug);
        assert_seen(Build::Release);
    }
}

#[test]
#[ignore = "deep: builds five times"]
fn a_profiler_finds_the_innermost_span_in_every_build() {
    if !need(&["gdb", "readelf", "target:x86_64-unknown-linux-musl"]) {
        return;
    }
    for build in [Build::Smallest, Build::Bfd, Build::NoPie, Build::StaticGlibc, Build::Musl] {
        assert_seen(build);
    }
}

/// On another processor, the program itself looks.
#[test]
#[ignore = "deep: builds for another processor"]
fn an_aarch64_program_has_the_variable() {
    let needs = ["aarch64-linux-gnu-gcc", "qemu-aarch64-static", "target:aarch64-unknown-linux-gnu"];
    if !need(&needs) {
        return;
    }
    let mut qemu = Command::new("qemu-aarch64-static");
    qemu.args(["-L", "/usr/aarch64-linux-gnu"]).arg(Build::Aarch64.path(Linkage::Executable, 0));
    let mut fixture = Fixture::spawn(qemu.env("FIXTURE_PROFILED", ""), None);
    let outer = fixture.run("enter");
    let inner = fixture.run("enter");
    assert_eq!(fixture.run("profiled"), inner);
    fixture.run("leave");
    assert_eq!(fixture.run("profiled"), outer);
    fixture.run("leave");
    assert_eq!(fixture.run("profiled"), "");
    fixture.end();
}

/// rustc hides the variable of a library, so nobody would find it.
#[test]
fn a_library_says_that_profilers_do_not_see_its_spans() {
    if !need(&["python3"]) {
        return;
    }
    let mut python = Command::new("python3");
    let load = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).fixture_obey()";
    let errors = tempfile::NamedTempFile::new().unwrap();
    python.args(["-c", load]).arg(Build::Debug.path(Linkage::Cdylib, 0)).env("FIXTURE_PROFILED", "");
    let mut fixture = Fixture::spawn(python.stderr(errors.reopen().unwrap()), None);
    fixture.run("enter");
    fixture.run("leave");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", fixture.pid())).unwrap();
    assert!(!maps.contains("OTEL_CTX"), "{maps}");
    fixture.end();
    let errors = std::fs::read_to_string(errors.path()).unwrap();
    assert!(errors.contains("link it with -Wl,--export-dynamic-symbol=otel_thread_ctx_v1"), "{errors}");
}

/// The kernel ends a program that makes a file longer than its limit. The mapping can do without a file.
#[test]
fn a_program_that_may_write_no_files_is_not_killed() {
    if !need(&["gdb", "readelf"]) {
        return;
    }
    let executable = Build::Debug.path(Linkage::Executable, 0);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 0; exec \"$0\""]).arg(&executable).env("FIXTURE_PROFILED", "");
    // Its messages might go to a file.
    let mut fixture = Fixture::spawn(shell.stderr(Stdio::null()), None);
    let seen = Seen::new(fixture.pid(), &executable);
    let inner = fixture.run("enter");
    assert_eq!(seen.ids(), Some(inner));
    // Some kernels don't name such mappings.
    if let Some(context) = seen.context() {
        assert_eq!(context.text("service.name"), "fixture");
    }
    fixture.run("leave");
    fixture.end();
}

#[test]
fn a_forked_child_tells_of_itself() {
    if !need(&["gdb", "readelf"]) {
        return;
    }
    let executable = Build::Debug.path(Linkage::Executable, 0);
    let (mut fixture, parent) = profiled(&executable);
    let in_parent = fixture.run("enter");
    fixture.begin("enter_in_child");
    let child = Seen::new(fixture.line().parse().unwrap(), &executable);
    let in_child = fixture.line();
    assert_eq!((parent.ids(), child.ids()), (Some(in_parent), Some(in_child)));
    let pids = [&parent, &child].map(|seen| seen.context().unwrap().text("process.pid"));
    assert_eq!(pids, [&parent, &child].map(|seen| seen.pid.to_string()));
    kill(Pid::from_raw(child.pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    fixture.finish();
    fixture.end();
}

#[test]
fn nothing_is_told_unless_the_user_wants_it() {
    if !need(&["gdb", "readelf"]) {
        return;
    }
    let executable = Build::Debug.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&executable, Linkage::Executable, None);
    let seen = Seen::new(fixture.pid(), &executable);
    fixture.run("enter");
    assert_eq!((seen.ids(), seen.context()), (None, None));
    fixture.run("leave");
    fixture.end();
}
