//! The spool where there is no room: spans that did not fit are lost and counted, and once the backend is back,
//! no others are.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::{MadeUp, Spantap, ZipkinBackend, free_address, get, need, send, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system in memory, gone with the value.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn segments(&self) -> Vec<PathBuf> {
        files(self.path())
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "segment"))
            .collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.folder.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A collector with a spool, and what its metrics say.
struct Run {
    spantap: Spantap,
    metrics: SocketAddr,
}

impl Run {
    fn start(by: &[&str], spool: &Path, to: &str) -> Self {
        let metrics = free_address();
        let address = metrics.to_string();
        let args = ["--quiet", "--to", to, "--spool", spool.to_str().unwrap(), "--metrics", &address];
        let spantap = Spantap::listen_by(by, &args);
        wait_until("it serves its figures", || get(metrics, "/metrics").is_some());
        Self { spantap, metrics }
    }

    /// The sum of a metric over its series that have `label`.
    fn metric(&self, name: &str, label: &str) -> u64 {
        let page = get(self.metrics, "/metrics").unwrap();
        let lines = page
            .lines()
            .filter(|line| line.starts_with(&format!("spantap_{name}{{")) && line.contains(label));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    fn unwritten(&self) -> u64 {
        self.metric("dropped_spans_total", "reason=\"spool_write\"")
    }

    /// Sends spans, and waits until all of them are in the account.
    fn send(&self, spans: &[MadeUp]) {
        let before = self.metric("pushed_spans_total", "");
        send(self.spantap.socket(), spans);
        wait_until("all are taken", || self.metric("pushed_spans_total", "") == before + spans.len() as u64);
    }

    fn wait_for_delivery(&self) {
        wait_until("the spool is delivered", || self.metric("queued_spans", "target=") == 0);
    }
}

/// Fills the disk while the backend is away, and then sends more in rounds that must all be delivered.
fn heals(run: &Run, backend: &ZipkinBackend, spans: &[MadeUp]) {
    let (first, later) = spans.split_at(30_000);
    run.send(first);
    let lost = run.unwritten();
    assert!(lost > 0 && lost < 30_000, "{lost} of 30,000");
    backend.answer(202);
    run.wait_for_delivery();
    assert_eq!(backend.accepted() as u64, 30_000 - lost);
    for (round, spans) in later.chunks(1000).enumerate() {
        run.send(spans);
        run.wait_for_delivery();
        assert_eq!(run.unwritten(), lost, "in round {round}: {}", run.spantap.stderr());
    }
    assert_eq!(backend.accepted() as u64, spans.len() as u64 - lost);
}

#[test]
fn a_full_disk_heals_when_the_backend_is_back() {
    if !need(&["root"]) {
        return;
    }
    let disk = SmallDisk::new("size=2m");
    let backend = ZipkinBackend::start(503);
    let run = Run::start(&["env"], disk.path(), &backend.target());
    heals(&run, &backend, &MadeUp::many(33_000));
    // And a second time.
    backend.answer(503);
    let before = (backend.accepted() as u64, run.unwritten());
    run.send(&MadeUp::many(66_000)[33_000..63_000]);
    backend.answer(202);
    run.wait_for_delivery();
    assert_eq!(backend.accepted() as u64 - before.0, 30_000 - (run.unwritten() - before.1));
    run.send(&MadeUp::many(66_000)[63_000..]);
    run.wait_for_delivery();
    let stderr = run.spantap.terminate().stderr;
    assert!(stderr.contains("No space left") && stderr.contains("can be written again"), "{stderr}");
    assert!(disk.segments().is_empty(), "{:?}", disk.segments());
}

/// A backend that comes and goes never takes all of the spool.
#[test]
fn a_full_disk_takes_new_spans_when_some_are_delivered() {
    if !need(&["root"]) {
        return;
    }
    let disk = SmallDisk::new("size=2m");
    let backend = ZipkinBackend::start(503);
    let run = Run::start(&["env"], disk.path(), &backend.target());
    let spans = MadeUp::many(32_000);
    run.send(&spans[..30_000]);
    let lost = run.unwritten();
    assert!(lost > 0);
    for round in 0..2 {
        let before = backend.accepted();
        backend.accept(2);
        wait_until("two batches are delivered", || {
            run.metric("queued_spans", "target=") == 30_000 + round * 1000 - lost - backend.accepted() as u64
                && backend.accepted() >= before + 2_000
        });
        let next = 30_000 + 1000 * round as usize;
        run.send(&spans[next..next + 1000]);
        assert_eq!(run.unwritten(), lost, "in round {round}: {}", run.spantap.stderr());
    }
    backend.answer(202);
    run.wait_for_delivery();
    assert_eq!(backend.accepted() as u64, 32_000 - lost);
}

/// The spool can't even be opened without a few writes.
#[test]
fn a_start_on_a_full_disk_delivers_what_is_there() {
    if !need(&["root"]) {
        return;
    }
    let disk = SmallDisk::new("size=2m");
    let backend = ZipkinBackend::start(503);
    let run = Run::start(&["env"], disk.path(), &backend.target());
    run.send(&MadeUp::many(30_000));
    let lost = run.unwritten();
    assert!(lost > 0);
    drop(run); // with SIGKILL
    // Half a record, as a kill in the middle of a write leaves it, and not a byte of room.
    // The last one may be empty.
    let has_records = |path: &PathBuf| path.metadata().unwrap().len() > 100;
    let last = disk.segments().into_iter().filter(has_records).max().unwrap();
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, [&whole[..], &whole[..100]].concat()).unwrap();
    let filler = disk.path().join("filler");
    let mut byte = 1 << 20;
    let mut room = Vec::new();
    while byte > 0 {
        room.resize(room.len() + byte, b'x');
        if std::fs::write(&filler, &room).is_err() {
            room.truncate(room.len() - byte);
            byte /= 2;
        }
    }
    let run = Run::start(&["env"], disk.path(), &backend.target());
    let recovered = run.metric("recovered_spans_total", "");
    let torn = run.metric("dropped_spans_total", "reason=\"unreadable\"");
    assert_eq!(recovered, 30_000 - lost + torn);
    backend.answer(202);
    run.wait_for_delivery();
    assert_eq!(backend.accepted() as u64, 30_000 - lost);
    let more = &MadeUp::many(31_000)[30_000..];
    run.send(more);
    run.wait_for_delivery();
    assert_eq!((backend.accepted() as u64, run.unwritten()), (31_000 - lost, 0));
}

/// With `RLIMIT_FSIZE` a file may only be so large. The kernel also sends SIGXFSZ, which ends a process by default.
#[test]
fn a_limit_on_the_size_of_files_costs_no_span() {
    if !need(&["prlimit"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let backend = ZipkinBackend::start(503);
    let run = Run::start(&["prlimit", "--fsize=200000"], folder.path(), &backend.target());
    run.send(&MadeUp::many(10_000));
    let sizes: Vec<u64> = files(folder.path()).iter().map(|path| path.metadata().unwrap().len()).collect();
    assert!(sizes.iter().filter(|size| **size > 100_000).count() > 5, "{sizes:?}");
    backend.answer(202);
    run.wait_for_delivery();
    assert_eq!((backend.accepted(), run.unwritten()), (10_000, 0));
    let ended = run.spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");
}
