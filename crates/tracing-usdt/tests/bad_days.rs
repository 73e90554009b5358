//! Missing and unusable sockets, restarts, slow receivers, huge and panicking values.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::{Collector, assert_stats_add_up, tag, text, wait_until};
use tracing::{info, info_span, subscriber::with_default};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_usdt::{Builder, Delivery, Handle, Sampler, UsdtLayer};

/// The layer, and a list of the errors that it reports.
fn reporting(builder: Builder) -> (UsdtLayer, Arc<Mutex<Vec<String>>>) {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&errors);
    let layer = builder.on_error(move |error| sink.lock().unwrap().push(error.to_string())).build();
    (layer, errors)
}

/// Options for a layer that sends or drops a span before its close returns.
fn inline_to(path: &Path) -> Builder {
    tracing_usdt::builder().with_socket(path).with_delivery(Delivery::Inline)
}

/// Closes three spans with the socket at `path`. Returns the reported errors, and the layer's handle.
fn three_spans_to(path: &Path) -> (Vec<String>, Handle) {
    let (layer, errors) = reporting(inline_to(path));
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..3 {
            drop(info_span!("span"));
        }
    });
    assert_stats_add_up(&handle);
    let errors = errors.lock().unwrap().clone();
    (errors, handle)
}

/// Checks that the error is reported once, with the path and `reason`, and that the spans are counted.
#[track_caller]
fn assert_reported(path: &Path, reason: &str) {
    let (errors, handle) = three_spans_to(path);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains(path.to_str().unwrap()), "no path in {errors:?}");
    assert!(errors[0].contains(reason), "no {reason:?} in {errors:?}");
    assert_eq!(handle.stats().dropped.no_receiver, 3);
}

#[test]
fn a_missing_socket_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    assert_reported(&folder.path().join("none.sock"), "start a collector");
}

#[test]
fn files_and_folders_are_reported_as_not_a_socket() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_reported(file.path(), "not a socket");
    let folder = tempfile::tempdir().unwrap();
    assert_reported(folder.path(), "not a socket");
}

#[test]
fn a_stale_socket_is_reported_as_unbound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.sock");
    drop(UnixDatagram::bind(&path).unwrap());
    assert_reported(&path, "no program receives");
}

#[test]
fn a_stream_socket_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    assert_reported(&path, "stream socket");
}

#[test]
fn a_path_that_is_too_long_is_reported_with_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(200));
    assert_reported(&path, &format!("{} bytes", path.as_os_str().len()));
}

/// Root may connect to any socket, so the test runs itself again as another user.
#[test]
fn a_socket_without_permission_is_reported() {
    const CHILD: &str = "BAD_DAYS_NO_PERMISSION";
    if let Some(path) = std::env::var_os(CHILD) {
        assert_reported(&PathBuf::from(path), "write permission");
        return;
    }
    let collector = Collector::bind();
    fs::set_permissions(collector.path(), PermissionsExt::from_mode(0o000)).unwrap();
    if !nix::unistd::geteuid().is_root() {
        assert_reported(collector.path(), "write permission");
        return;
    }
    // The other user may not be able to reach the test executable.
    let exe = collector.folder().join("bad_days");
    // Another process writes the copy. If this one did, a child of another test could inherit the descriptor,
    // and the file would be busy.
    let this = std::env::current_exe().unwrap();
    assert!(std::process::Command::new("cp").arg(this).arg(&exe).status().unwrap().success());
    fs::set_permissions(collector.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    let output = std::os::unix::process::CommandExt::uid(
        std::process::Command::new(exe)
            .args(["--exact", "a_socket_without_permission_is_reported"])
            .env(CHILD, collector.path()),
        65534,
    )
    .output()
    .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn a_collector_that_starts_late_gets_later_spans() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.sock");
    let (layer, errors) = reporting(inline_to(&path));
    let handle = layer.handle();
    let _socket = with_default(tracing_subscriber::registry().with(layer), || {
        drop(info_span!("too early"));
        let socket = UnixDatagram::bind(&path).unwrap();
        wait_until("a span arrives", || {
            drop(info_span!("in time"));
            handle.stats().sent > 0
        });
        socket
    });
    assert_eq!(errors.lock().unwrap().len(), 1);
    assert_stats_add_up(&handle);
}

#[test]
fn spans_survive_a_restart_of_the_collector() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restart.sock");
    let first = UnixDatagram::bind(&path).unwrap();
    let (layer, errors) = reporting(inline_to(&path));
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        drop(info_span!("to the first"));
        drop(first);
        drop(info_span!("to nobody"));
        drop(info_span!("to nobody"));
        assert_eq!(handle.stats().dropped.no_receiver, 2);

        fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        let back = Instant::now();
        let mut made = 0;
        wait_until("sending resumes", || {
            made += 1;
            drop(info_span!("to the second"));
            handle.stats().sent == 2
        });
        assert!(back.elapsed() < Duration::from_secs(1), "resumed after {:?}", back.elapsed());
        assert_eq!(handle.stats().closed, 3 + made);

        // If the new receiver binds its socket before the old one closes, no span is lost.
        fs::remove_file(&path).unwrap();
        let third = UnixDatagram::bind(&path).unwrap();
        drop(second);
        let before = handle.stats().dropped;
        drop(info_span!("to the third"));
        assert_eq!(handle.stats().dropped, before);
        drop(third);
    });
    assert_eq!(errors.lock().unwrap().len(), 1, "{errors:?}");
    assert_stats_add_up(&handle);
}

#[test]
fn a_receiver_that_does_not_read_only_loses_spans() {
    let collector = Collector::bind();
    let (layer, errors) = reporting(collector.builder());
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..1000 {
            drop(info_span!("span"));
        }
        let stats = handle.stats();
        assert!(stats.sent > 0 && stats.dropped.queue_full > 0, "{stats:?}");
        assert_eq!(stats.sent + stats.dropped.queue_full, 1000);
        assert_eq!(collector.drain().len() as u64, stats.sent);

        // Losses are reported in the stream once there is room again.
        let mut report = None;
        wait_until("the losses are reported", || {
            drop(info_span!("span"));
            report = collector.drain().into_iter().find(|s| text(s, "name") == "tracing_usdt.dropped");
            report.is_some()
        });
        let report = report.unwrap();
        assert_eq!(
            tag(&report, "tracing_usdt.dropped.queue_full"),
            Some(&*stats.dropped.queue_full.to_string())
        );
        assert_eq!(report["tags"].as_object().unwrap().len(), 1);
        assert!(!report.contains_key("parentId"));
        assert!(report["duration"].as_u64().unwrap() >= 1_000_000, "at most once a second: {report:?}");
    });
    assert!(errors.lock().unwrap().is_empty(), "a slow receiver is no error: {errors:?}");
    assert_stats_add_up(&handle);
    assert_eq!(collector.drain().len(), 0, "reported once");
}

#[test]
fn the_last_losses_are_reported_at_the_end() {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    let handle = layer.handle();
    let subscriber = tracing_subscriber::registry().with(layer);
    let guard = tracing::subscriber::set_default(subscriber);
    // The system sets how many datagrams a queue holds: 10, or 512 with systemd.
    while handle.stats().dropped.queue_full < 3 {
        drop(info_span!("span"));
    }
    let lost = handle.stats().dropped.queue_full;
    collector.drain();
    drop((guard, handle));
    let last = collector.drain();
    assert_eq!(last.len(), 1);
    assert_eq!(tag(&last[0], "tracing_usdt.dropped.queue_full"), Some(&*lost.to_string()));
}

#[test]
fn a_closing_thread_that_waits_for_room_loses_nothing() {
    let collector = Collector::bind();
    let layer = collector.builder().with_max_wait(Duration::from_secs(20)).build();
    let handle = layer.handle();
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut received = 0;
            wait_until("all spans arrive", || {
                received += collector.drain().len();
                received == 200
            });
            received
        });
        with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..200 {
                drop(info_span!("span"));
            }
        });
        reader.join().unwrap()
    });
    assert_eq!((received, handle.stats().sent), (200, 200));
}

#[test]
fn waiting_for_room_ends_at_its_bound() {
    let collector = Collector::bind();
    let layer = collector.builder().with_max_wait(Duration::from_millis(50)).build();
    let handle = layer.handle();
    let start = Instant::now();
    with_default(tracing_subscriber::registry().with(layer), || {
        while handle.stats().dropped.queue_full == 0 {
            drop(info_span!("span"));
        }
    });
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_stats_add_up(&handle);
}

#[test]
fn child_processes_do_not_inherit_the_socket() {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    with_default(tracing_subscriber::registry().with(layer), || drop(info_span!("connects")));
    let inode = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"));
    assert!(inode.count() >= 1, "the collector's socket, at least");
    let list = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("/proc/") && !list.contains("socket:"), "{list}");
}

#[test]
fn huge_values_are_shortened_and_the_datagram_stays_valid() {
    let collector = Collector::bind();
    let long = "é\u{1}\"".repeat(50_000);
    let spans = collector.spans_of(|| {
        let span = info_span!("huge", a = %long, b = %long, c = %long, small = 1);
        span.in_scope(|| {
            for _ in 0..1000 {
                info!(long, "tick");
                tracing::error!(error = %long);
            }
        });
    });
    let span = &spans["huge"];
    let a = tag(span, "a").unwrap();
    assert!(!a.is_empty() && long.starts_with(a));
    assert_eq!(tag(span, "small"), Some("1"), "a small field is not lost to large ones");
    let error = tag(span, "error").unwrap();
    assert!(!error.is_empty() && long.starts_with(error));
    let number = |key: &str| tag(span, key).map_or(0, |n| n.parse::<usize>().unwrap());
    assert!(number("tracing_usdt.shortened_values_count") >= 1);
    let annotations = span["annotations"].as_array().unwrap();
    assert!(annotations.len() >= 2, "shortened events are kept");
    assert_eq!(annotations.len() + number("otel.dropped_events_count"), 2000);
    assert!(serde_json::to_string(span).unwrap().len() < 65_536, "any receiver's buffer takes it");
}

#[test]
fn each_value_that_was_shortened_counts_once() {
    let collector = Collector::bind();
    let long = "x".repeat(100_000);
    let spans = collector.spans_of(|| {
        info_span!("one", long);
        info_span!("two", a = %long, b = %long);
        info_span!("in an event").in_scope(|| info!("{long}"));
        info_span!("none", short = "x");
    });
    let count = |name: &str| tag(&spans[name], "tracing_usdt.shortened_values_count");
    assert_eq!(count("one"), Some("1"));
    assert_eq!(count("two"), Some("2"));
    assert_eq!(count("in an event"), Some("1"));
    assert_eq!(count("none"), None);
    assert_eq!(tag(&spans["one"], "long").unwrap().len() / 1000, 10, "about 10 KiB are kept");
}

#[test]
fn a_panicking_debug_leaves_the_layer_usable() {
    struct Panics;
    impl fmt::Debug for Panics {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            std::panic::panic_any("the application's own")
        }
    }
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let outer = info_span!("outer", later = tracing::field::Empty);
        let _outer = outer.enter();
        // A root: after the panic the registry keeps the span open for ever, and would keep a parent open with
        // it.
        let new_span = || drop(info_span!(parent: None, "never", x = ?Panics));
        let event = || info!(x = ?Panics, "never");
        let record = || _ = outer.record("later", tracing::field::debug(Panics));
        let attempts: [&dyn Fn(); 3] = [&new_span, &event, &record];
        for attempt in attempts {
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"the application's own"));
        }
        drop(info_span!("after", x = 1));
    });
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["after", "outer"]);
    assert_eq!(text(&spans["after"], "parentId"), text(&spans["outer"], "id"));
    assert!(!spans["outer"].contains_key("annotations"));
}

#[test]
fn a_trace_that_is_not_sampled_sends_nothing_and_is_counted() {
    let collector = Collector::bind();
    let layer = collector.builder().with_sampler(Sampler::AlwaysOff).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("root").in_scope(|| drop(info_span!("child")));
    });
    let stats = handle.stats();
    assert_eq!((stats.closed, stats.dropped.sampled_out), (2, 2));
    assert_eq!(collector.drain().len(), 0, "a sampled-out trace was reported as lost");
}

/// A span's trace id comes from its root, which may be many parents away when the layer first sees the span.
#[test]
fn deep_nesting_does_not_recurse() {
    let collector = Collector::bind();
    let (layer, reload) = tracing_subscriber::reload::Layer::new(None::<UsdtLayer>);
    // A layer that is `None` turns all levels off, unless another one asks for them.
    with_default(tracing_subscriber::registry().with(layer).with(LevelFilter::TRACE), || {
        let mut spans = vec![info_span!("root")];
        for _ in 0..200_000 {
            let parent = spans.last().unwrap();
            spans.push(info_span!(parent: parent, "nested"));
        }
        reload.reload(Some(collector.builder().build())).unwrap();
        let deepest = spans.last().unwrap();
        let leaf = info_span!(parent: deepest, "leaf");
        let other = info_span!(parent: deepest, "other");
        drop((leaf, other));
        let sent = collector.drain();
        assert_eq!(text(&sent[0], "parentId"), text(&sent[1], "parentId"));
        assert_eq!(text(&sent[0], "traceId"), text(&sent[1], "traceId"));
        // From the leaves up: the registry closes a chain of parents by recursion.
        while spans.pop().is_some() {}
    });
}

/// The working folder belongs to the whole process, so the test runs itself again in a process of its own.
#[test]
fn a_relative_path_means_the_folder_where_the_layer_was_built() {
    const CHILD: &str = "BAD_DAYS_RELATIVE";
    if std::env::var_os(CHILD).is_none() {
        let name = "a_relative_path_means_the_folder_where_the_layer_was_built";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The deep folder's absolute path is too long for a socket's address. The relative path is not.
    for depth in [1, 20] {
        let (home, other) =
            (folder.path().join("home/".repeat(depth)), folder.path().join(format!("other{depth}")));
        let bind = |folder: &Path| {
            fs::create_dir_all(folder).unwrap();
            std::env::set_current_dir(folder).unwrap();
            let _ = fs::remove_file("t.sock");
            let socket = UnixDatagram::bind("t.sock").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let elsewhere = bind(&other);
        let first = bind(&home);
        let (layer, _) = reporting(inline_to(Path::new("./t.sock")));
        let handle = layer.handle();
        with_default(tracing_subscriber::registry().with(layer), || {
            drop(info_span!("at home"));
            assert!(first.recv(&mut [0; 4096]).is_ok(), "{depth}");
            drop(first);
            let second = bind(&home);
            std::env::set_current_dir(&other).unwrap();
            drop(info_span!("from elsewhere"));
            if depth > 1 {
                // No address reaches the socket from here, and the other socket must not get the span.
                assert_eq!(handle.stats().dropped.no_receiver, 1);
                std::env::set_current_dir(&home).unwrap();
                wait_until("the layer has connected again", || {
                    drop(info_span!("at home again"));
                    handle.stats().sent == 2
                });
            }
            assert!(second.recv(&mut [0; 4096]).is_ok(), "{depth}");
        });
        assert!(elsewhere.recv(&mut [0; 4096]).is_err(), "{depth}: another socket got our spans");
        assert_stats_add_up(&handle);
    }
}
