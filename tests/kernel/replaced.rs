//! A deployment replaces the executable that spantap is attached to with a new build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use e2e::{Build, Collector, Fixture, Linkage, Spantap, wait_until};
use nix::sys::signal::{Signal, kill};

use crate::found::Found;
use crate::with_kernel;
use crate::worker::{Output, Worker};

/// Replaces the file at `path` with another one of the same content.
fn deploy(path: &Path) {
    let new = path.with_extension("new");
    fs::copy(env!("CARGO_BIN_EXE_kernel_work"), &new).unwrap();
    fs::rename(&new, path).unwrap();
}

fn start(path: &Path) -> Worker {
    Worker::spawn(&mut Command::new(path))
}

fn wait_for_line(spantap: &Spantap, line: &str, times: usize) {
    wait_until("spantap reports it", || spantap.stderr().matches(line).count() == times);
}

const REPLACED: &str = "was replaced: spans of the new build are collected from now on";

#[test]
fn processes_of_new_and_old_builds_are_followed() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        let mut workers = vec![start(&exe)];
        for times in 1..=3 {
            deploy(&exe);
            wait_for_line(&spantap, REPLACED, times);
            workers.push(start(&exe));
            for worker in &mut workers {
                worker.run("sleep 1 10");
            }
        }
        let ended = spantap.terminate();
        assert!(ended.status.success(), "{ended:?}");
        let spans = output.spans();
        // Each span once, with the kernel's account.
        assert_eq!(spans.own("sleeper").count(), 2 + 3 + 4, "{}", ended.stderr);
        assert!(ended.stderr.contains("9 spans from 4 senders"), "{}", ended.stderr);
        assert!(spans.own("sleeper").all(Found::has_account), "{:#?}", spans.0);
        workers.into_iter().for_each(Worker::end);
    });
}

/// The earlier build is restored by another link to the same file, while it is still followed.
#[test]
fn a_restored_build_is_not_counted_twice() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let old = output.path("old");
        fs::hard_link(&exe, &old).unwrap();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        deploy(&exe);
        wait_for_line(&spantap, REPLACED, 1);
        fs::rename(&old, &exe).unwrap();
        wait_for_line(&spantap, "is back, and still followed", 1);
        let mut worker = start(&exe);
        worker.run("sleep 1 10");
        deploy(&exe);
        wait_for_line(&spantap, REPLACED, 2);
        worker.run("sleep 1 10");
        worker.end();
        let ended = spantap.terminate();
        assert_eq!(output.spans().own("sleeper").count(), 2, "{}", ended.stderr);
    });
}

/// `touch`, `chmod` or `rsync` may change a file's times.
#[test]
fn a_file_with_new_times_only_is_followed_without_interruption() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        let mut worker = start(&exe);
        worker.run("enter");
        for _ in 0..5 {
            assert!(Command::new("touch").arg(&exe).status().unwrap().success());
            worker.run("sleep 10 10");
        }
        worker.run("leave");
        worker.end();
        let ended = spantap.terminate();
        let spans = output.spans();
        let (early, sleeps) = (spans.one("early"), spans.own("sleeper"));
        // Half of the ten sleeps suffice, because the kernel may leave some out.
        assert_eq!(sleeps.filter(|sleeper| spans.below(sleeper, "sleep").len() >= 5).count(), 5);
        assert!(!early.text("kernel.partial").contains("began before"), "{early:#?}");
        assert!(!ended.stderr.contains("replaced"), "{}", ended.stderr);
    });
}

/// Each release has a folder, and a link leads to the current one.
#[test]
fn a_link_to_a_new_release_is_followed() {
    with_kernel(&[], || {
        let output = Output::new();
        let link = output.path("current");
        let release = |name: &str| {
            let folder = output.path(name);
            fs::create_dir(&folder).unwrap();
            fs::copy(env!("CARGO_BIN_EXE_kernel_work"), folder.join("shop")).unwrap();
            let new = output.path("new");
            std::os::unix::fs::symlink(&folder, &new).unwrap();
            fs::rename(&new, &link).unwrap();
        };
        release("first");
        let exe = link.join("shop");
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        let mut first = start(&exe);
        release("second");
        wait_for_line(&spantap, REPLACED, 1);
        let mut second = start(&exe);
        first.run("sleep 1 10");
        second.run("sleep 1 10");
        spantap.terminate();
        assert_eq!(output.spans().own("sleeper").count(), 2);
    });
}

/// The file's new content has its probes at other addresses.
#[test]
fn an_overwritten_file_is_attached_again() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        let mut worker = start(&exe);
        worker.run("sleep 1 10");
        worker.end();
        let copied = Command::new("cp").arg(Build::Debug.path(Linkage::Executable, 0)).arg(&exe).status();
        assert!(copied.unwrap().success());
        wait_for_line(&spantap, REPLACED, 1);
        let mut fixture = Fixture::start(&exe, Linkage::Executable, None);
        fixture.run("threads 2 10");
        fixture.end();
        let ended = spantap.terminate();
        assert!(ended.stderr.contains("41 spans from 2 senders"), "{}", ended.stderr);
    });
}

#[test]
fn a_file_without_probes_is_reported_and_the_next_build_followed() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        let mut old = start(&exe);
        // For a moment there is no file.
        fs::remove_file(&exe).unwrap();
        fs::copy("/bin/true", &exe).unwrap();
        wait_for_line(&spantap, "has no probes of tracing-usdt", 1);
        old.run("sleep 1 10");
        deploy(&exe);
        wait_for_line(&spantap, REPLACED, 1);
        let mut new = start(&exe);
        new.run("sleep 1 10");
        spantap.terminate();
        assert_eq!(output.spans().own("sleeper").count(), 2);
    });
}

/// By the path in the container, or by one of its processes.
#[test]
#[ignore = "deep: attaches twice, in containers"]
fn new_builds_in_a_container_are_followed() {
    with_kernel(&["unshare", "nsenter"], || {
        for path in ["root/mnt/shop", "exe"] {
            let output = Output::new();
            let mut old = in_container();
            let exe = format!("/proc/{}/{path}", old.pid());
            let spantap = Spantap::attach(&["--exe", &exe, "--to", &output.to()]);
            deploy(&path_in_container_of(&old));
            wait_for_line(&spantap, REPLACED, 1);
            let mut new = in_container_of(&old);
            old.run("sleep 1 10");
            new.run("sleep 1 10");
            let ended = spantap.terminate();
            assert_eq!(output.spans().own("sleeper").count(), 2, "{}", ended.stderr);
        }
    });
}

/// Starts a worker in a mount namespace of its own, as `/mnt/shop`.
fn in_container() -> Worker {
    let script = "mount -t tmpfs tmpfs /mnt && cp \"$0\" /mnt/shop && exec /mnt/shop";
    let mut command = Command::new("unshare");
    Worker::spawn(command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_kernel_work")]))
}

/// Starts another worker in the container of the first.
fn in_container_of(first: &Worker) -> Worker {
    Worker::spawn(Command::new("nsenter").args(["-m", "-t", &first.pid(), "/mnt/shop"]))
}

/// The path by which spantap finds the worker's file.
fn path_in_container_of(worker: &Worker) -> PathBuf {
    format!("/proc/{}/root/mnt/shop", worker.pid()).into()
}

const CONTAINER_ENDED: &str = "the last process of the container of /proc/";

#[test]
#[ignore = "deep: attaches twice, in containers"]
fn a_container_is_followed_while_it_has_processes() {
    with_kernel(&["unshare", "nsenter"], || {
        for path in ["root/mnt/shop", "exe"] {
            let output = Output::new();
            let first = in_container();
            let exe = format!("/proc/{}/{path}", first.pid());
            let spantap = Spantap::attach(&["--exe", &exe, "--to", &output.to()]);
            let second = in_container_of(&first);
            first.end();
            deploy(&path_in_container_of(&second));
            wait_for_line(&spantap, REPLACED, 1);
            let mut third = in_container_of(&second);
            third.run("sleep 1 10");
            second.end();
            third.run("sleep 1 10");
            assert!(!spantap.stderr().contains(CONTAINER_ENDED), "{}", spantap.stderr());
            third.end();
            wait_for_line(&spantap, CONTAINER_ENDED, 1);
            let ended = spantap.terminate();
            assert_eq!(output.spans().own("sleeper").count(), 2, "{}", ended.stderr);
        }
    });
}

/// A process of another container gets the pid in the path.
#[test]
#[ignore = "deep: attaches twice, and waits for a pid to be used again"]
fn a_path_through_a_process_that_ended_does_not_lead_to_another() {
    with_kernel(&["unshare"], || {
        for path in ["root/mnt/shop", "exe"] {
            let output = Output::new();
            let mut first = in_container();
            let pid = first.child.id();
            let exe = format!("/proc/{pid}/{path}");
            let spantap = Spantap::attach(&["--exe", &exe, "--to", &output.to()]);
            first.run("sleep 1 10");
            first.end();
            let mut second = None;
            wait_until("another process gets the pid", || {
                fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
                let worker = in_container();
                let is_it = worker.child.id() == pid;
                second = Some(worker).filter(|_| is_it);
                is_it
            });
            // By then spantap has checked for new builds many times.
            wait_for_line(&spantap, CONTAINER_ENDED, 1);
            second.unwrap().run("sleep 1 10");
            let ended = spantap.terminate();
            assert_eq!(output.spans().own("sleeper").count(), 1, "{}", ended.stderr);
        }
    });
}

/// spantap attaches by a process of the old build, whose file was replaced before.
#[test]
#[ignore = "deep: attaches twice, to a build that was replaced before"]
fn a_new_build_from_before_the_attach_is_followed() {
    with_kernel(&[], || {
        for is_by_link in [false, true] {
            let output = Output::new();
            let exe = output.worker();
            let mut old = start(&exe);
            deploy(&exe);
            let mut new = start(&exe);
            let mut path: PathBuf = format!("/proc/{}/exe", old.pid()).into();
            if is_by_link {
                let link = output.path("link");
                std::os::unix::fs::symlink(path, &link).unwrap();
                path = link;
            }
            let spantap = Spantap::attach(&["--exe", path.to_str().unwrap(), "--to", &output.to()]);
            wait_for_line(&spantap, REPLACED, 1);
            old.run("sleep 1 10");
            new.run("sleep 1 10");
            let ended = spantap.terminate();
            assert_eq!(output.spans().own("sleeper").count(), 2, "{}", ended.stderr);
        }
    });
}

/// The number of deleted builds that spantap keeps open. They take space on the disk.
fn deleted_builds(spantap: &Spantap) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", spantap.pid())).unwrap().flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.filter(|link| link.to_string_lossy().ends_with("kernel_work (deleted)")).count()
}

/// More builds come than spantap follows at once.
#[test]
#[ignore = "deep: deploys 40 builds"]
fn a_running_build_is_followed_however_many_builds_come_after_it() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to()]);
        let mut first = start(&exe);
        for times in 1..=40 {
            deploy(&exe);
            wait_for_line(&spantap, REPLACED, times);
        }
        let mut last = start(&exe);
        first.run("sleep 1 10");
        last.run("sleep 1 10");
        wait_until("only the running build is kept open", || deleted_builds(&spantap) == 1);
        first.run("sleep 1 10");
        first.end();
        wait_until("none is kept open", || deleted_builds(&spantap) == 0);
        last.run("sleep 1 10");
        let ended = spantap.terminate();
        assert_eq!(output.spans().own("sleeper").count(), 4, "{}", ended.stderr);
        assert!(!ended.stderr.contains("no longer collected"), "{}", ended.stderr);
    });
}

/// All builds run, and there are too many, so spantap stops following the oldest one.
#[test]
#[ignore = "deep: deploys 32 builds"]
fn spans_of_a_build_that_is_no_longer_followed_get_no_more_children() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let spantap = Spantap::attach(&["--exe", exe.to_str().unwrap(), "--to", &output.to(), "--min", "0s"]);
        let mut workers = vec![start(&exe)];
        workers[0].run("enter");
        for times in 1..=32 {
            deploy(&exe);
            wait_for_line(&spantap, REPLACED, times);
            workers.push(start(&exe));
        }
        wait_for_line(&spantap, "spans of the oldest build are no longer collected", 1);
        let released = SystemTime::now();
        workers[0].run("leave");
        workers[0].run("pause 100");
        workers[1].run("sleep 1 10");
        let ended = spantap.terminate();
        let spans = output.spans();
        let sleeper = spans.one("sleeper");
        let released = released.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let is_late = |span: &&Found| span.is_kernels && span.end_ns > released;
        let late: Vec<_> = spans.0.iter().filter(is_late).collect();
        assert!(!late.is_empty() && late.iter().all(|span| span.trace == sleeper.trace), "{late:#?}");
        assert!(ended.status.success(), "{ended:?}");
    });
}

/// spantap is attached to the pid. A program that upgrades itself in place executes its new build.
#[test]
fn a_process_that_executes_another_build_is_followed() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let mut worker = start(&exe);
        let pid = worker.pid();
        let other = output.path("other build");
        fs::copy(&exe, &other).unwrap();
        let link = output.path("link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let spantap = Spantap::attach(&["--pid", &pid, "--to", &output.to()]);
        worker.run("sleep 1 10");
        worker.begin(&format!("become {}", link.display()));
        assert_eq!(worker.line(), "ready");
        wait_for_line(
            &spantap,
            &format!("process {pid} has executed other build; its spans are collected"),
            1,
        );
        worker.run("sleep 1 10");
        worker.begin("become sleep 1000");
        wait_for_line(
            &spantap,
            &format!("process {pid} has executed another program: neither sleep (pid"),
            1,
        );
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        let ended = spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        let spans = output.spans();
        assert_eq!(spans.own("sleeper").count(), 2, "{}", ended.stderr);
        assert!(spans.own("sleeper").all(Found::has_account), "{:#?}", spans.0);
    });
}

/// The kernel identifies a process by its first thread. Another thread that executes a program takes the first
/// one's place.
#[test]
fn a_process_is_followed_whichever_thread_executes_a_build() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let other = output.path("other_build");
        fs::copy(&exe, &other).unwrap();
        let mut worker = start(&exe);
        let pid = worker.pid();
        let spantap = Spantap::attach(&["--pid", &pid, "--to", &output.to()]);
        worker.run("sleep 1 10");
        let runs = [
            ("become_by_thread", &exe),
            ("become", &exe),
            ("become_by_thread", &other),
            ("become_by_thread", &exe),
            ("become", &other),
            ("become", &exe),
        ];
        for (number, (command, path)) in runs.into_iter().enumerate() {
            worker.begin(&format!("{command} {}", path.display()));
            assert_eq!(worker.line(), "ready");
            wait_for_line(&spantap, &format!("process {pid} has executed "), number + 1);
            worker.run("sleep 1 10");
        }
        worker.end();
        let ended = spantap.wait();
        let spans = output.spans();
        assert_eq!(spans.own("sleeper").count(), 1 + runs.len(), "{}", ended.stderr);
        assert!(spans.own("sleeper").all(Found::has_account), "{:#?}", spans.0);
    });
}

/// A thread is in a span when spantap notices that the process has executed the same file again.
#[test]
#[ignore = "deep: executes 12 times"]
fn a_span_entered_before_an_exec_was_noticed_ends_with_its_exit() {
    with_kernel(&[], || {
        let output = Output::new();
        let exe = output.worker();
        let mut worker = start(&exe);
        let pid = worker.pid();
        let spantap = Spantap::attach(&["--pid", &pid, "--to", &output.to(), "--min", "0s"]);
        for number in 1..=12 {
            worker.begin(&format!("become {}", exe.display()));
            assert_eq!(worker.line(), "ready");
            // The spans' exits are spread over the time in which spantap attaches to the process again.
            worker.run(&format!("sleep 1 {}", 5 * number));
            wait_for_line(&spantap, "has executed", number);
            worker.run("pause 500");
        }
        worker.end();
        let ended = spantap.wait();
        let spans = output.spans();
        let sleeps: Vec<u64> =
            spans.0.iter().filter(|span| span.name == "sleep").map(Found::duration_ns).collect();
        // Far above 60 ms, because the machine may be busy, and below the pause, which is in no span.
        let are_right = !sleeps.is_empty() && sleeps.iter().all(|ns| *ns < 400_000_000);
        assert!(are_right, "{sleeps:?}: {}", ended.stderr);
    });
}

/// The program times the span, because it has a socket.
#[test]
fn a_span_entered_before_the_attach_to_its_build_is_marked() {
    with_kernel(&[], || {
        let collector = Collector::start();
        let output = Output::new();
        let exe = output.worker();
        let mut worker = Worker::spawn(Command::new(&exe).env("TRACING_USDT_SOCKET", collector.path()));
        let spantap = Spantap::attach(&["--pid", &worker.pid(), "--to", &output.to()]);
        kill(spantap.pid(), Signal::SIGSTOP).unwrap();
        worker.begin(&format!("become_by_thread {}", exe.display()));
        assert_eq!(worker.line(), "ready");
        worker.run("enter");
        kill(spantap.pid(), Signal::SIGCONT).unwrap();
        wait_for_line(&spantap, "has executed", 1);
        worker.run("leave");
        worker.run("sleep 1 10");
        worker.end();
        let ended = spantap.wait();
        let spans = output.spans();
        let why = "it began before spantap attached";
        assert_eq!(spans.one("early").text("kernel.partial"), why, "{}", ended.stderr);
        assert_eq!(spans.one("sleeper").text("kernel.partial"), "", "{}", ended.stderr);
    });
}

/// A program may load a library at any time after the exec, so spantap waits a second for it.
#[test]
fn a_library_loaded_soon_after_an_exec_is_followed() {
    with_kernel(&["python3"], || {
        let library = Build::Release.path(Linkage::Cdylib, 0);
        let output = Output::new();
        let mut worker = start(&output.worker());
        let spantap = Spantap::attach(&["--pid", &worker.pid(), "--to", &output.to()]);
        let script = output.path("host.py");
        let load = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).fixture_obey()";
        fs::write(&script, load).unwrap();
        worker.begin(&format!("become python3 {} {}", script.display(), library.display()));
        assert_eq!(worker.line(), "ready");
        let loaded = Instant::now();
        wait_for_line(&spantap, "has executed python", 1);
        assert!(loaded.elapsed().as_millis() < 500, "{:?}", loaded.elapsed());
        worker.begin("threads 2 10");
        assert_eq!(worker.line(), "done");
        worker.end();
        let ended = spantap.wait();
        assert_eq!(output.spans().0.iter().filter(|span| !span.is_kernels).count(), 40, "{}", ended.stderr);
    });
}
