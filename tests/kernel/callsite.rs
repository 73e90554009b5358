//! `spantap attach --callsite`: spans that the program makes because spantap wants them.

use std::process::{Command, Stdio};

use e2e::{Build, Fixture, Linkage, Spantap, program};

use crate::with_kernel;

fn start(path: &std::path::Path) -> Fixture {
    let mut command = Command::new(path);
    Fixture::spawn(command.env("FIXTURE_STACK", "info").stderr(Stdio::null()), None)
}

/// The names in the tree that spantap prints, in order.
fn names(text: &str) -> Vec<&str> {
    let known = ["request", "kept", "query", "row", "beside", "explicit", "alone"];
    let words = text.lines().filter(|line| !line.starts_with("trace "));
    words.flat_map(str::split_whitespace).filter(|word| known.contains(word)).collect()
}

#[test]
fn callsites_are_turned_on_and_off_without_a_restart() {
    with_kernel(&["linux:6.6"], || {
        let path = Build::Release.path(Linkage::Executable, 0);
        let mut fixture = start(&path);
        fixture.run("nest");
        let pid = fixture.pid().to_string();
        let args = ["--pid", &pid, "--callsite", "fixture::callsites:kept", "--callsite", "*:r?w"];
        let spantap = Spantap::attach(&args);
        fixture.run("nest");
        let ended = spantap.terminate();
        assert!(ended.stderr.contains("turned on 2 callsites of "), "{}", ended.stderr);
        let found = names(&ended.stdout);
        assert_eq!(found, ["request", "kept", "query", "row", "explicit", "beside"], "{}", ended.stdout);
        // Nobody looks any more.
        let probes = Command::new(program("spantap")).args(["probes", "--pid", &pid]).output().unwrap();
        let listed = String::from_utf8_lossy(&probes.stdout);
        assert!(listed.contains("fixture__callsites:kept") && !listed.contains("attached"), "{listed}");
        let spantap = Spantap::attach(&["--pid", &pid]);
        fixture.run("nest");
        let ended = spantap.terminate();
        assert_eq!(names(&ended.stdout), ["request", "query", "beside", "explicit"], "{}", ended.stdout);
        fixture.end();
    });
}

/// The kernel counts the consumer for processes that start later, too.
#[test]
fn later_processes_have_the_callsites_turned_on() {
    with_kernel(&["linux:6.6"], || {
        let path = Build::Release.path(Linkage::Executable, 0);
        let spantap = Spantap::attach(&["--exe", path.to_str().unwrap(), "--callsite", "*:kept"]);
        let mut fixture = start(&path);
        fixture.run("nest");
        fixture.end();
        let ended = spantap.terminate();
        assert_eq!(
            names(&ended.stdout).iter().filter(|name| **name == "kept").count(),
            1,
            "{}",
            ended.stdout
        );
    });
}

#[test]
fn a_callsite_that_does_not_exist_is_refused() {
    with_kernel(&["linux:6.6"], || {
        let path = Build::Release.path(Linkage::Executable, 0);
        for (pattern, why) in [("shop:*", "that is named shop:*"), ("*:a_name", "--callsite takes spans")] {
            // The other pattern fits.
            let callsites = ["--callsite", "*:kept", "--callsite", pattern];
            let mut spantap = Command::new(program("spantap"));
            let output = spantap.args(["attach", "--exe"]).arg(&path).args(callsites).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && stderr.contains(why), "{stderr}");
        }
    });
}
