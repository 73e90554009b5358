//! spantap's names for programs. They never contain the kernel's marks for files, such as `(deleted)` and
//! `memfd:`.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use e2e::{Ended, Spantap};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::found::Spans;
use crate::with_kernel;
use crate::worker::{Output, Worker};

/// Starts the worker from a file in memory that is called `name`, with `argument` as its first argument.
fn in_memory(name: &str, argument: &str) -> Worker {
    let memory = memfd_create(&*CString::new(name).unwrap(), MFdFlags::MFD_CLOEXEC).unwrap();
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    // Opens it again, because a file that is open for writing can't be executed.
    fs::write(&path, fs::read(env!("CARGO_BIN_EXE_kernel_work")).unwrap()).unwrap();
    let read_only = fs::File::open(&path).unwrap();
    drop(memory);
    let path = format!("/proc/{}/fd/{}", std::process::id(), read_only.as_raw_fd());
    Worker::spawn(Command::new(path).arg0(argument))
}

/// The output and the forwarded spans of spantap for a worker whose own spans do not end.
fn names_of(mut worker: Worker) -> (Ended, Spans) {
    let output = Output::new();
    let spantap = Spantap::attach(&["--pid", &worker.pid(), "--to", &output.to(), "--min", "0s"]);
    worker.run("enter");
    worker.run("pause 20");
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");
    (ended, output.spans())
}

#[track_caller]
fn assert_named(worker: Worker, name: &str) {
    let pid = worker.pid();
    let (ended, spans) = names_of(worker);
    assert!(ended.stderr.contains(&format!("attached to {name} (pid {pid})")), "{}", ended.stderr);
    assert!(!spans.0.is_empty() && spans.0.iter().all(|span| span.service == name), "{:#?}", spans.0);
    assert!(spans.0.iter().all(|span| !span.text("thread.name").contains("memfd:")), "{:#?}", spans.0);
    assert!(ended.stdout.contains(&format!("{name}[{pid}]")), "{}", ended.stdout);
    for mark in ["(deleted)", "memfd:"] {
        let is_name = name.contains(mark);
        assert!(is_name || !(ended.stderr.contains(mark) || ended.stdout.contains(mark)), "{ended:?}");
    }
}

#[test]
fn a_program_in_memory_is_named_by_its_first_argument() {
    with_kernel(&[], || {
        assert_named(in_memory("loader", "shop"), "shop");
        assert_named(in_memory("loader", "/usr/bin/the shop"), "the shop");
    });
}

/// The program is executed by its descriptor. Newer kernels then name its first thread by the link.
#[test]
fn threads_of_a_program_in_memory_are_not_named_by_its_link() {
    with_kernel(&["python3"], || {
        let script = "import os, sys\n\
                      memory = os.memfd_create('loader')\n\
                      with open(memory, 'wb', closefd=False) as file: file.write(open(sys.argv[1], 'rb').read())\n\
                      image = os.open(f'/proc/self/fd/{memory}', os.O_RDONLY)\n\
                      os.close(memory)\n\
                      os.execve(image, ['shop'], os.environ)";
        let mut python = Command::new("python3");
        assert_named(Worker::spawn(python.args(["-c", script, env!("CARGO_BIN_EXE_kernel_work")])), "shop");
    });
}

/// The first argument is empty, or only has the number of a descriptor.
#[test]
fn a_program_in_memory_without_a_usable_argument_is_named_by_its_memory_file() {
    with_kernel(&[], || {
        for argument in ["", "/proc/self/fd/7"] {
            assert_named(in_memory("loader", argument), "loader");
        }
    });
}

/// Starts a worker whose file is called `name`, and then does something to the file.
fn started_as(name: &str, then: impl Fn(&Path)) -> (Output, Worker) {
    let output = Output::new();
    let path = output.path(name);
    fs::rename(output.worker(), &path).unwrap();
    let worker = Worker::spawn(&mut Command::new(&path));
    then(&path);
    (output, worker)
}

#[test]
fn a_program_is_named_by_its_file_also_after_the_file_was_removed() {
    with_kernel(&[], || {
        for (name, expected) in [("shop", "shop"), ("my shop", "my shop"), ("x (deleted)", "x (deleted)")] {
            let (_folder, worker) = started_as(name, |path| fs::remove_file(path).unwrap());
            assert_named(worker, expected);
        }
    });
}

/// Another file has its path, and its own file still has another link.
#[test]
fn a_program_whose_file_was_replaced_keeps_its_name() {
    with_kernel(&[], || {
        let replace = |path: &Path| {
            let new = path.with_extension("new");
            fs::hard_link(path, path.with_extension("old")).unwrap();
            fs::write(&new, "").unwrap();
            fs::rename(&new, path).unwrap();
        };
        let (_folder, worker) = started_as("shop", replace);
        assert_named(worker, "shop");
    });
}

#[test]
fn a_file_whose_name_ends_in_deleted_keeps_its_name() {
    with_kernel(&[], || {
        let (_folder, worker) = started_as("shop (deleted)", |_| ());
        assert_named(worker, "shop (deleted)");
    });
}

/// Its path is in its own mount namespace.
#[test]
fn a_program_in_a_container_is_named_by_its_file() {
    with_kernel(&["unshare"], || {
        for (name, expected) in [("hidden", "hidden"), ("it (deleted)", "it (deleted)")] {
            let script = "mount -t tmpfs tmpfs /mnt && cp \"$0\" \"/mnt/$1\" && exec \"/mnt/$1\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_kernel_work"), name]);
            assert_named(Worker::spawn(&mut command), expected);
        }
    });
}

/// The kernel shows the loader as the executable, and the loader's command line.
#[test]
fn a_program_started_by_the_dynamic_loader_has_its_own_name() {
    with_kernel(&[], || {
        let loader = loader();
        for (options, name) in [
            (&[][..], "kernel_work"),
            (&["--library-path", "/nowhere"], "kernel_work"),
            (&["--argv0", "/opt/shop", "--inhibit-cache"], "shop"),
        ] {
            let mut command = Command::new(&loader);
            assert_named(Worker::spawn(command.args(options).arg(env!("CARGO_BIN_EXE_kernel_work"))), name);
        }
    });
}

/// The dynamic loader of this test program.
fn loader() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let mut loaders = paths.filter(|path| path.rsplit('/').next().unwrap().starts_with("ld-"));
    loaders.next().unwrap().to_owned()
}
