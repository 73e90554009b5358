//! Paths that lead to the file with the probes, and files that have none.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Build, Fixture, Linkage, Spantap, program};

use crate::with_kernel;
use crate::worker::{Output, Worker};

/// Attaches by `path`, and checks that spantap sees a span of the worker, but none of another worker that is
/// busy.
#[track_caller]
fn assert_reached_by(path: &Path, worker: &mut Worker) {
    let output = Output::new();
    let to = output.to();
    let args = [OsStr::new("--exe"), path.as_os_str(), OsStr::new("--to"), OsStr::new(&to)];
    let spantap = Spantap::attach(&args);
    worker.run("sleep 1 10");
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{path:?}: {ended:?}");
    let spans = output.spans();
    assert!(spans.one("sleeper").has_account(), "{path:?}: {:#?}", spans.0);
    assert_eq!(spans.own("busy").count(), 0, "{path:?}");
}

/// Starts a worker in a mount namespace of its own, where its file has the path `path`.
fn in_container(path: &str) -> Worker {
    let script = "mount -t tmpfs tmpfs \"${1%/*}\" && cp \"$0\" \"$1\" && exec \"$1\"";
    let mut command = Command::new("unshare");
    Worker::spawn(command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_kernel_work"), path]))
}

#[test]
fn a_program_in_a_container_is_reached_through_proc() {
    with_kernel(&["unshare"], || {
        let mut worker = in_container("/mnt/the worker");
        let process = PathBuf::from(format!("/proc/{}", worker.pid()));
        for path in ["root/mnt/the worker", "exe"] {
            assert_reached_by(&process.join(path), &mut worker);
        }
    });
}

/// On the host, the same path has first a file without probes, and then one with probes.
#[test]
#[ignore = "deep: attaches five times"]
fn a_path_through_proc_never_leads_to_a_file_of_the_host() {
    with_kernel(&["unshare"], || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker");
        let mut worker = in_container(path.to_str().unwrap());
        let process = PathBuf::from(format!("/proc/{}", worker.pid()));
        let in_container = process.join("root").join(path.strip_prefix("/").unwrap());
        fs::copy("/bin/true", &path).unwrap();
        assert_reached_by(&in_container, &mut worker);
        fs::remove_file(&path).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_kernel_work"), &path).unwrap();
        let mut hosts = Worker::spawn(&mut Command::new(&path));
        hosts.run("busy");
        // Links in the container, whose targets exist on the host, too.
        let link = |name: &str, target: &Path| {
            let link = in_container.with_file_name(name);
            std::os::unix::fs::symlink(target, &link).unwrap();
            link
        };
        let file = link("file", &path);
        let folder = link("folder", path.parent().unwrap()).join("worker");
        let above = Path::new("../../../../../..").join(path.strip_prefix("/").unwrap());
        let above = link("above", &above);
        let thread = format!("task/{}/exe", worker.pid());
        for path in [in_container, process.join("exe"), process.join(thread), file, folder, above] {
            assert_reached_by(&path, &mut worker);
        }
    });
}

#[test]
#[ignore = "deep: attaches 12 times"]
fn paths_may_contain_any_characters() {
    with_kernel(&[], || {
        let output = Output::new();
        let names: [&[u8]; 6] = [
            b"two words",
            b"'single' \"double\"",
            b"line\nend",
            b"\xff\xfe \xc3",
            b" (deleted)",
            b"$HOME;*?[a]\\",
        ];
        for name in names {
            let folder = output.path("folder").join(OsStr::from_bytes(name));
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(OsStr::from_bytes(name));
            fs::copy(env!("CARGO_BIN_EXE_kernel_work"), &path).unwrap();
            let mut worker = Worker::spawn(&mut Command::new(&path));
            assert_reached_by(&path, &mut worker);
            assert_reached_by(&PathBuf::from(format!("/proc/{}/exe", worker.pid())), &mut worker);
        }
    });
}

#[test]
fn links_are_followed_to_their_current_target() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let link = output.path("current");
        std::os::unix::fs::symlink(&exe, &link).unwrap();
        let hard = output.path("hard link");
        fs::hard_link(&exe, &hard).unwrap();
        let mut worker = Worker::spawn(&mut Command::new(&exe));
        for path in
            [link, hard, PathBuf::from(format!("/proc/{}/map_files", worker.pid())).join(code_of(&worker))]
        {
            assert_reached_by(&path, &mut worker);
        }
        // By a path that is relative to spantap's working folder.
        let to = output.to();
        let mut spantap = Command::new(program("spantap"));
        spantap.args(["attach", "--exe", "./kernel_work", "--to", &to]).current_dir(exe.parent().unwrap());
        let spantap = Spantap::attach_by(&mut spantap);
        worker.run("sleep 1 10");
        spantap.terminate();
        assert_eq!(output.spans().own("sleeper").count(), 1);
    });
}

/// The name in `map_files` of the worker's mapped code.
fn code_of(worker: &Worker) -> String {
    let maps = fs::read_to_string(format!("/proc/{}/maps", worker.pid())).unwrap();
    let line = maps.lines().find(|line| line.contains("r-xp") && line.ends_with("kernel_work")).unwrap();
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    format!("{:x}-{:x}", number(start), number(end))
}

#[test]
fn a_deleted_file_is_reached_through_its_process() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let mut worker = Worker::spawn(&mut Command::new(&exe));
        fs::remove_file(&exe).unwrap();
        assert_reached_by(&PathBuf::from(format!("/proc/{}/exe", worker.pid())), &mut worker);
        // The kernel's text for the path ends in " (deleted)".
        let mut spantap = Command::new(program("spantap"));
        let link = fs::read_link(format!("/proc/{}/exe", worker.pid())).unwrap();
        let output = spantap.args(["attach", "--exe"]).arg(link).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("/proc/PID/exe, even after it was deleted"), "{error}");
    });
}

/// A program that is not in Rust has loaded a library, whose file is then replaced or removed.
#[test]
fn a_library_that_was_replaced_since_it_was_loaded_is_reached() {
    with_kernel(&["python3"], || {
        let built = Build::Release.path(Linkage::Cdylib, 0);
        let output = Output::new();
        let path = output.path("my library.so");
        for is_replaced in [true, false] {
            fs::copy(&built, &path).unwrap();
            let mut host = Fixture::start(&path, Linkage::Cdylib, None);
            fs::remove_file(&path).unwrap();
            if is_replaced {
                // A later build, which no process has loaded yet.
                fs::copy(&built, &path).unwrap();
            }
            let spantap = Spantap::attach(&["--pid", &host.pid().to_string(), "--kernel", "none"]);
            host.run("threads 2 10");
            host.end();
            let ended = spantap.wait();
            assert!(ended.status.success() && ended.stderr.contains("40 spans from 1 sender"), "{ended:?}");
            assert!(
                !ended.stderr.contains("(deleted)") && ended.stderr.contains("attached to python"),
                "{ended:?}"
            );
        }
    });
}

/// The file is the executable of another user's process.
#[test]
fn a_file_without_read_permission_is_not_reported_as_missing() {
    with_kernel(&[], || {
        let output = Output::new();
        let folder = output.path("open to all");
        fs::create_dir(&folder).unwrap();
        let spantap = folder.join("spantap");
        fs::copy(program("spantap"), &spantap).unwrap();
        let all = fs::Permissions::from_mode(0o755);
        folder.ancestors().take(2).for_each(|folder| fs::set_permissions(folder, all.clone()).unwrap());
        let worker = Worker::start();
        for path in ["exe", "root/bin/true"] {
            let path = format!("/proc/{}/{path}", worker.pid());
            let refused =
                Command::new(&spantap).args(["attach", "--exe", &path]).uid(65534).output().unwrap();
            let error = String::from_utf8(refused.stderr).unwrap();
            let why = format!("can't read {path}; try as root: sudo spantap attach ...");
            assert!(!refused.status.success() && error.contains(&why), "{error}");
        }
    });
}

/// The error of a spantap that can't attach to the file.
fn refusal(path: &Path) -> String {
    let output = Command::new(program("spantap")).args(["attach", "--exe"]).arg(path).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
fn assert_refused(path: &Path, why: &str) {
    let error = refusal(path);
    assert!(error.contains(why) && error.lines().count() == 1, "{path:?}: {error}");
}

#[test]
#[ignore = "deep: builds three times, with fat LTO"]
fn stripped_notes_are_not_reported_as_a_missing_layer() {
    with_kernel(&["objcopy", "strip"], || {
        let output = Output::new();
        for build in [Build::Debug, Build::Smallest, Build::Bfd] {
            let path = build.path(Linkage::Executable, 0);
            for tool in ["objcopy", "strip"] {
                let without = output.path(tool);
                let mut command = Command::new(tool);
                command.arg("--remove-section=.note.stapsdt");
                match tool {
                    "strip" => command.arg("-o").arg(&without).arg(&path),
                    _ => command.arg(&path).arg(&without),
                };
                assert!(command.status().unwrap().success());
                let why = "has the layer of tracing-usdt, but no notes of its probes";
                assert_refused(&without, why);
                // The same for a process of the file.
                let worker = Fixture::start(&without, Linkage::Executable, None);
                let mut spantap = Command::new(program("spantap"));
                let refused = spantap.args(["attach", "--pid", &worker.pid().to_string()]).output().unwrap();
                let error = String::from_utf8(refused.stderr).unwrap();
                assert!(
                    error.contains(why) && error.contains(&format!("process {}", worker.pid())),
                    "{error}"
                );
            }
            // A plain strip, as packagers do it, keeps the notes.
            let stripped = output.path("stripped");
            let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&path).status().unwrap();
            assert!(strip.success());
            let spantap = Spantap::attach(&["--exe", stripped.to_str().unwrap()]);
            let mut fixture = Fixture::start(&stripped, Linkage::Executable, None);
            fixture.run("threads 1 10");
            fixture.end();
            let ended = spantap.terminate();
            assert!(ended.stderr.contains("20 spans from 1 sender"), "{}", ended.stderr);
        }
    });
}

/// If the linker leaves a probe's code out, it writes the address 0 into the note. The test does so for
/// `batch_emit`.
#[test]
fn notes_of_removed_code_are_reported() {
    with_kernel(&[], || {
        let output = Output::new();
        let path = output.path("without code");
        let mut bytes = fs::read(Build::Release.path(Linkage::Executable, 0)).unwrap();
        let at = note_of_batch_emit(&bytes);
        bytes[at - 24..at - 16].fill(0);
        fs::write(&path, bytes).unwrap();
        assert_refused(&path, "the linker left the probes out of");
    });
}

/// Where the names are in the note of `batch_emit`, behind its three addresses.
fn note_of_batch_emit(file: &[u8]) -> usize {
    let names = b"tracing\0batch_emit\0";
    file.windows(names.len()).position(|window| window == names).unwrap()
}

#[test]
fn an_earlier_version_of_the_layer_is_reported() {
    with_kernel(&[], || {
        let output = Output::new();
        let path = output.path("of an earlier version");
        let mut bytes = fs::read(Build::Release.path(Linkage::Executable, 0)).unwrap();
        // To spantap, the probe has another name.
        let at = note_of_batch_emit(&bytes);
        bytes[at + "tracing\0".len()] = b'x';
        fs::write(&path, bytes).unwrap();
        assert_refused(&path, "has an earlier version of tracing-usdt, without the probe batch_emit");
    });
}

#[test]
fn other_files_have_no_layer() {
    with_kernel(&[], || {
        let output = Output::new();
        let path = |name: &str, content: &[u8]| {
            let path = output.path(name);
            fs::write(&path, content).unwrap();
            path
        };
        // spantap has the names of the layer's settings, and other probes.
        let spantap = program("spantap");
        let script = path("script", b"#!/bin/sh\nexec tracing_usdt\n");
        let cut = path("cut", &fs::read(&spantap).unwrap()[..10_000]);
        let empty = path("empty", b"");
        let pipe = output.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [spantap, script, empty, pipe, output.path("."), PathBuf::from("/dev/null"), cut] {
            assert_refused(&path, "has no probes of tracing-usdt");
        }
    });
}

/// Without section headers the notes can't be found.
#[test]
fn a_file_without_section_headers_is_reported() {
    with_kernel(&[], || {
        let output = Output::new();
        let mut bytes = fs::read(Build::Release.path(Linkage::Executable, 0)).unwrap();
        // Clears e_shoff, e_shnum and e_shstrndx of the Elf64_Ehdr.
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
        let path = output.path("packed");
        fs::write(&path, bytes).unwrap();
        assert_refused(&path, "has no section headers");
    });
}
