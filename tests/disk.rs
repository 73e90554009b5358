//! The spool on a full disk: spans that do not fit are lost and counted. Once the backend is back, no more are
//! lost.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::{MadeUp, Spantap, ZipkinBackend, free_address, get, need, send, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use spantap::capture::Capture;

/// A small file system in memory, unmounted on drop.
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

/// spantap with a spool, and the address of its metrics.
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
        wait_until("spantap serves its metrics", || get(metrics, "/metrics").is_some());
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

    /// Spans that were lost because the spool could not be written.
    fn unwritten(&self) -> u64 {
        self.metric("dropped_spans_total", "reason=\"spool_write\"")
    }

    /// Sends spans and waits until the metrics count all of them.
    fn send(&self, spans: &[MadeUp]) {
        let before = self.metric("pushed_spans_total", "");
        send(self.spantap.socket(), spans);
        wait_until("spantap has counted all spans", || {
            self.metric("pushed_spans_total", "") == before + spans.len() as u64
        });
    }

    fn wait_for_delivery(&self) {
        wait_until("the spool is delivered", || self.metric("queued_spans", "target=") == 0);
    }
}

/// Fills the disk while the backend is away. After that, sends in rounds; all of these spans must be delivered.
fn assert_recovers(run: &Run, backend: &ZipkinBackend, spans: &[MadeUp]) {
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
#[ignore = "deep: fills a disk twice, and delivers 63,000 spans"]
fn a_full_disk_recovers_when_the_backend_is_back() {
    if !need(&["root"]) {
        return;
    }
    let disk = SmallDisk::new("size=2m");
    let backend = ZipkinBackend::start(503);
    let run = Run::start(&["env"], disk.path(), &backend.target());
    assert_recovers(&run, &backend, &MadeUp::many(33_000));
    // The same a second time.
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

#[test]
fn recording_goes_on_when_a_full_disk_has_room() {
    if !need(&["root"]) {
        return;
    }
    let disk = SmallDisk::new("size=2m");
    let (capture, other) = (disk.path().join("capture.spans"), disk.path().join("other"));
    let spantap = Spantap::record(&capture, &[]);
    std::fs::write(&other, vec![0; (2 << 20) - (64 << 10)]).unwrap();
    let spans = MadeUp::many(5_000);
    send(spantap.socket(), &spans);
    wait_until("spantap reports it", || spantap.stderr().contains("No space left on device"));
    std::fs::remove_file(other).unwrap();
    wait_until("spantap goes on", || spantap.stderr().contains(" works again after "));
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("5,000 spans recorded"), "{}", ended.stderr);
    let mut read = Capture::open(&capture).unwrap();
    let found: usize = read.by_ref().map(|spans| spans.unwrap().iter().count()).sum();
    assert_eq!((found, read.damage().is_none()), (5_000, true), "{}", read.damage());
}

/// The backend accepts two batches at a time, so the spool never becomes empty.
#[test]
fn the_spool_takes_new_spans_as_soon_as_some_are_delivered() {
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

/// Opening a spool takes a few writes, for which a full disk has no room.
#[test]
fn a_start_on_a_full_disk_delivers_the_spooled_spans() {
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
    // A kill in the middle of a write leaves half a record. This one goes to the last segment that is not
    // empty, and a filler takes all room on the disk.
    let has_records = |path: &PathBuf| path.metadata().unwrap().len() > 100;
    let last = disk.segments().into_iter().filter(has_records).max().unwrap();
    let whole = std::fs::read(&last).unwrap();
    // The first record begins behind the file's head.
    std::fs::write(&last, [&whole[..], &whole[24..124]].concat()).unwrap();
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

/// `RLIMIT_FSIZE` limits the size of a file. At the limit the kernel also sends SIGXFSZ, which by default ends
/// the process.
#[test]
fn a_limit_on_the_size_of_files_loses_no_span() {
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
