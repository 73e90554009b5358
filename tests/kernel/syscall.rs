//! System calls.

use crate::found::{count, number};
use crate::with_kernel;
use crate::worker::Attached;

#[test]
fn system_calls_are_named_and_counted() {
    with_kernel(&[], || {
        let ([measured], spans, _) =
            Attached::start(&["--kernel", "sched,syscall", "--min", "1ms"]).run_all(["calls 1000"]);
        let caller = spans.one("caller");
        let small = spans.below(caller, "syscall getppid");
        assert_eq!(count(&small), 1000, "{small:#?}");
        let [sleep] = spans.below(caller, "syscall clock_nanosleep")[..] else { panic!("{:#?}", spans.0) };
        assert!(sleep.duration_ns() >= 10_000_000 && sleep.duration_ns() < number(&measured, "wall_ns"));
        assert_eq!(sleep.attributes["kernel.syscall.result"], "0");

        let (_, spans, _) = Attached::start(&["--kernel", "syscall", "--min", "0us"]).run_all(["calls 1"]);
        let opens = spans.below(spans.one("caller"), "syscall openat");
        let open =
            opens.iter().find(|open| open.text("kernel.syscall.path") == "/nowhere/to/be/found").unwrap();
        assert_eq!(open.text("kernel.syscall.error"), "ENOENT");
        // Without `sched`, the span has no account.
        assert_eq!(spans.one("caller").account().values().sum::<u64>(), 0);
    });
}

#[test]
fn system_calls_have_their_paths_and_addresses() {
    with_kernel(&[], || {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().display();
        let attached = Attached::start(&["--kernel", "syscall", "--min", "0us"]);
        let (_, spans, _) = attached.run_all([&*format!("name {folder}")]);
        let namer = spans.one("namer");
        let attribute_of = |call: &str, key: &str| -> Vec<String> {
            let calls = spans.below(namer, call);
            calls.iter().map(|call| call.text(key).to_owned()).collect()
        };
        let socket = format!("{folder}/socket");
        assert_eq!(attribute_of("syscall bind", "network.local.address"), [&*socket, "127.0.0.1"]);
        assert_eq!(
            attribute_of("syscall connect", "network.peer.address"),
            [&format!("{socket}.other"), "127.0.0.1"]
        );
        assert_eq!(attribute_of("syscall connect", "kernel.syscall.error"), ["ENOENT", ""]);
        assert_eq!(
            attribute_of("syscall sendto", "network.peer.address"),
            ["127.0.0.1", ""],
            "the second is a send()"
        );
        assert_eq!(attribute_of("syscall sendto", "network.peer.port"), ["9", ""]);
        let renamed = [
            attribute_of("syscall rename", "kernel.syscall.path"),
            attribute_of("syscall renameat2", "kernel.syscall.path"),
        ];
        assert_eq!(renamed.concat(), [format!("{folder}/one")]);
    });
}
