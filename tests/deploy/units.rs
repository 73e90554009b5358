//! The units of systemd.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string, write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::{EBPF, Fixture, Linkage, Rotel, need, program};

use crate::confined::{Calls, Confined, NEEDS, USER};
use crate::unit::Unit;
use crate::{deployed, documented, spans_arrive};

const UNITS: [&str; 2] = ["spantap.service", "spantap-attach@.service"];

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !need(&["systemd-analyze"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in UNITS {
        let text = read_to_string(deployed("systemd").join(name)).unwrap();
        let text = text.replace("/usr/local/bin/spantap", program("spantap").to_str().unwrap());
        let copy = folder.path().join(name);
        write(&copy, text).unwrap();
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    }
}

#[test]
fn the_units_are_as_little_exposed_as_documented() {
    if !need(&["systemd-analyze"]) {
        return;
    }
    for name in UNITS {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager"]).arg(deployed("systemd").join(name));
        let output = analyze.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, rest) =
            text.split_once("Overall exposure level for ").unwrap_or_else(|| panic!("{name}: {text}"));
        let level: f64 = rest.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let said = documented(&format!("`{name}` an exposure of "));
        // Each version of systemd weighs settings a little differently.
        assert!((level - said).abs() < 0.35, "{name}: {level}, but the document says {said}: {text}");
    }
}

/// Checks the system calls of spantap against those that the unit allows.
fn assert_allowed(unit: &Unit, calls: &Calls) {
    let (made, allowed) = (calls.names(), unit.allowed_calls());
    assert!(made.contains("read") && made.len() > 20, "{made:?}");
    // libbpf asks in this way whether the kernel has the system call `uprobe` (336), and a refusal means that it has not.
    let refused: BTreeSet<_> = made.difference(&allowed).filter(|call| *call != "syscall_0x150").collect();
    assert!(refused.is_empty(), "refused by SystemCallFilter: {refused:?}");
    let families: BTreeSet<&str> = unit.value("RestrictAddressFamilies").split(' ').collect();
    let used = calls.families();
    assert!(used.contains("AF_INET"), "{used:?}");
    assert!(used.iter().all(|family| families.contains(&**family)), "{used:?}");
    assert_eq!(unit.value("MemoryDenyWriteExecute"), "yes");
    for line in calls.with("PROT_WRITE") {
        assert!(!line.contains("PROT_EXEC"), "{line}");
    }
    for (setting, text) in [("RestrictNamespaces", "CLONE_NEW"), ("RestrictRealtime", "sched_setscheduler(")]
    {
        assert_eq!((unit.value(setting), calls.with(text)), ("yes", Vec::new()), "{setting}");
    }
}

fn capabilities(unit: &Unit) -> Vec<String> {
    let name = |name: &str| name.strip_prefix("CAP_").unwrap().to_lowercase();
    unit.value("CapabilityBoundingSet").split(' ').filter(|name| !name.is_empty()).map(name).collect()
}

fn confined(unit: &Unit) -> Confined {
    // Those after the first are implied by DynamicUser=yes, and a unit with a user of its own needs them as well.
    for setting in ["NoNewPrivileges", "RemoveIPC", "RestrictSUIDSGID"] {
        assert_eq!(unit.value(setting), "yes");
    }
    assert_eq!(unit.value("ProtectSystem"), "strict");
    let capabilities = capabilities(unit);
    let ambient: Vec<&str> = unit.values("AmbientCapabilities").collect();
    assert_eq!(ambient.is_empty(), capabilities.is_empty());
    assert!(ambient.is_empty() || ambient == [unit.value("CapabilityBoundingSet")]);
    Confined::new(USER, &capabilities.iter().map(String::as_str).collect::<Vec<_>>())
}

/// By `exec_directory_is_private` of systemd: it keeps a runtime directory that outlives a dynamic user in `/run/private`, which has the
/// mode 0700. There, no program of another user would reach the socket.
#[test]
fn the_folder_of_the_socket_is_not_private_to_root() {
    if !need(&["systemd-sysusers"]) {
        return;
    }
    let unit = Unit::read("spantap.service");
    assert_eq!((unit.value("RuntimeDirectoryPreserve"), mode(&unit, "RuntimeDirectoryMode")), ("yes", 0o755));
    assert_eq!(unit.values("DynamicUser").next(), None);
    // Its user is one that the other file makes.
    let root = tempfile::tempdir().unwrap();
    let mut make = Command::new("systemd-sysusers");
    make.arg("--dry-run").arg(format!("--root={}", root.path().display()));
    let output = make.arg(deployed("systemd/spantap.sysusers")).output().unwrap();
    let made = format!("Creating user '{}' ", unit.value("User"));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains(&made), "no {made:?}");
}

fn mode(unit: &Unit, setting: &str) -> u32 {
    u32::from_str_radix(unit.value(setting), 8).unwrap()
}

/// With its user, capabilities, umask, folders and system calls. The backend is away at first, and spantap is killed and started again.
#[test]
fn the_service_receives_and_forwards_spans_as_confined_as_its_unit_says() {
    if !need(&[&NEEDS[..], &["rotel", "systemd-analyze"]].concat()) {
        return;
    }
    let unit = Unit::read("spantap.service");
    let mut confined = confined(&unit);
    let run = confined.writable(unit.value("RuntimeDirectory"), mode(&unit, "RuntimeDirectoryMode"));
    let state = confined.writable("state", mode(&unit, "StateDirectoryMode"));
    let spantap = confined.copy(&program("spantap"));
    let values = [
        ("/usr/local/bin/spantap", &*spantap),
        ("${RUNTIME_DIRECTORY}", run.to_str().unwrap()),
        ("${STATE_DIRECTORY}", state.to_str().unwrap()),
    ];
    let command = unit.command(&values);
    let mut backend = Rotel::start();
    backend.stop();
    let endpoint = format!("http://localhost:{}", backend.http.port());
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    confined.start(&command, unit.value("UMask"), &variables);
    let socket = run.join("trace.sock");
    // As the unit says.
    confined.wait_until("the socket is there for every user", |_| {
        socket.metadata().is_ok_and(|socket| socket.permissions().mode() & 0o777 == 0o666)
    });

    let mut other_user = Command::new("setpriv");
    let program = confined.copy(&crate::program());
    other_user.args([
        "--reuid",
        "64998",
        "--regid",
        "64998",
        "--clear-groups",
        "--no-new-privs",
        "--",
        &program,
    ]);
    other_user.env("TRACING_USDT_FORMAT", "otlp-protobuf");
    other_user.env("TRACING_USDT_DELIVERY", "background");
    let mut fixture = Fixture::spawn(&mut other_user, Some(&socket));
    let in_spool = || -> u64 {
        // A folder for each target.
        let folders = read_dir(&state).unwrap().map(|folder| folder.unwrap().path());
        let files = folders.filter(|folder| folder.is_dir()).flat_map(|folder| read_dir(folder).unwrap());
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let before = in_spool();
    fixture.run("below 1");
    confined.wait_until("spans are in the spool", |_| in_spool() > before);
    confined.wait_until("it looks for the backend", |this| {
        this.calls_of(&spantap).families().contains("AF_INET")
    });
    assert_allowed(&unit, &confined.kill(&spantap));
    confined.start(&command, unit.value("UMask"), &variables);
    backend.start_again();
    confined.wait_until("the spans of the spool arrive", |_| {
        backend.log().contains("    Name           : above")
    });
    // The program finds the new socket within a second.
    confined.wait_until("later spans arrive", |_| {
        fixture.run("tree");
        backend.log().contains("    Name           : parent")
    });
    let user = backend.log();
    assert!(user.contains("process.real_user.id: Int(64998)"), "{user}");
    fixture.end();
    let (status, calls) = confined.end(&spantap);
    assert!(status.success(), "{status}: {}", confined.stderr());
    assert!(confined.stderr().contains(" spans forwarded"), "{}", confined.stderr());
    assert!(!socket.exists());
    // What is in the spool is for its user only.
    let files =
        read_dir(&state).unwrap().map(|entry| entry.unwrap().metadata().unwrap().permissions().mode());
    let modes: Vec<u32> = files.map(|mode| mode & 0o077).collect();
    assert!(!modes.is_empty() && modes.iter().all(|mode| *mode == 0), "{modes:?}");
    assert_allowed(&unit, &calls);
}

/// The spans of a program of another user, and what the kernel did in them.
#[test]
fn the_attaching_service_forwards_spans_as_confined_as_its_unit_says() {
    if !need(&[&NEEDS[..], &EBPF, &["rotel", "systemd-analyze"]].concat()) {
        return;
    }
    let unit = Unit::read("spantap-attach@.service");
    let mut confined = confined(&unit);
    let state = confined.writable("state", mode(&unit, "StateDirectoryMode"));
    let spantap = confined.copy(&program("spantap"));
    let program = confined.copy(&crate::program());
    let values = [
        ("/usr/local/bin/spantap", &*spantap),
        ("%f", &*program),
        ("${STATE_DIRECTORY}", state.to_str().unwrap()),
    ];
    let command = unit.command(&values);
    let backend = Rotel::start();
    let endpoint = format!("http://localhost:{}", backend.http.port());
    confined.start(&command, unit.value("UMask"), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    confined.wait_until("spantap is attached", |this| this.stderr().contains("attached to "));
    let mut fixture = Fixture::start(std::path::Path::new(&program), Linkage::Executable, None);
    spans_arrive(&mut fixture, &backend, "kernel.on_cpu_ns: Int(");
    fixture.end();
    let (status, calls) = confined.end(&spantap);
    assert!(status.success(), "{status}: {}", confined.stderr());
    assert_allowed(&unit, &calls);
}
