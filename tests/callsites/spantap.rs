//! What `spantap probes` shows.

use std::process::{Command, Output};

use e2e::{BPFTRACE, Bpftrace, Build, Linkage, need};

use super::{PROVIDER, print, start};

fn probes(args: &[&str]) -> Output {
    Command::new(e2e::program("spantap")).arg("probes").args(args).output().unwrap()
}

fn printed(args: &[&str]) -> String {
    let output = probes(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The lines about a probe.
fn about<'a>(text: &'a str, probe: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| line.split("  ").next() != Some(probe));
    let first = lines.next().unwrap_or_else(|| panic!("nothing about {probe}: {text}"));
    std::iter::once(first).chain(lines.take_while(|line| line.starts_with(' '))).map(str::trim).collect()
}

#[test]
fn each_probe_is_listed_with_its_fields_and_a_command_that_prints_them() {
    let path = Build::Release.path(Linkage::Executable, 0);
    let file = path.to_str().unwrap();
    let text = printed(&[file]);
    let [_, small, arguments, command] = about(&text, "fixture__callsites:small")[..] else {
        panic!("{text}")
    };
    assert!(small.starts_with("debug span, tests/fixture/src/callsites.rs:"), "{small}");
    assert_eq!(
        arguments,
        "arg0 span id, arg1 yes (bool), arg2 no (bool), arg3 nonzero (u16), arg4 wrapping (i16), arg5 boxed (u32)"
    );
    let expected = format!(
        "bpftrace -e 'usdt:{file}:fixture__callsites:small {{ printf(\"%016llx %lld %lld %llu %lld %llu\\n\", arg0, arg1, arg2, arg3, arg4, arg5); }}'"
    );
    assert_eq!(command, expected);
    let texts = about(&text, "fixture__callsites:more_texts");
    assert_eq!(
        texts[2],
        "arg0 span id, arg1 nothing (text of arg2 bytes), arg3 reference (text of arg4 bytes), arg5 left (i32)"
    );
    let forty = about(&text, "fixture__callsites:forty");
    assert!(forty[2].ends_with("arg9 a8 (i32); no room for 31 fields"), "{forty:?}");
    assert!(about(&text, "fixture__callsites:twice")[0].ends_with("in 2 places"), "{text}");
    let exit = about(&text, "fixture__callsites:many__exit");
    assert_eq!(exit[2], "arg0 span id, arg1 duration in nanoseconds (u64)");
    let close = about(&text, "tracing:close");
    assert!(close[1].starts_with("arg0 span id, arg1 name (text), arg2 duration (u64), "), "{close:?}");
    // A library, and a choice.
    let library = Build::Debug.path(Linkage::Cdylib, 0);
    let text = printed(&[library.to_str().unwrap(), "--probe", "fixture::callsites:t*"]);
    assert!(text.contains("fixture__callsites:texts") && !text.contains("forty"), "{text}");
}

#[test]
fn a_command_of_the_list_prints_the_fields() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let text = printed(&[path.to_str().unwrap(), "--probe", "*:texts"]);
    let script = about(&text, "fixture__callsites:texts")[3].strip_prefix("bpftrace -e '").unwrap();
    let bpftrace = Bpftrace::attach(script.strip_suffix('\'').unwrap(), None);
    let mut fixture = start(&path, "none");
    fixture.run("kinds");
    fixture.end();
    assert_eq!(bpftrace.end(), [format!("{:016x} a text text", 0)]);
}

/// Also if the probe is in two places, and if the process has mapped its executable once more to read it, as std does for
/// a backtrace.
#[test]
fn it_says_which_probes_of_a_process_have_a_consumer() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = start(&path, "none");
    let pid = fixture.pid().to_string();
    let attached = |args: &[&str]| {
        let text = printed(args);
        let lines = text.lines().filter(|line| line.ends_with("  attached"));
        lines.map(|line| line.split("  ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(attached(&["--pid", &pid]), [] as [&str; 0]);
    let script = print(&path, "many", "%d", "arg1") + &print(&path, "generic", "%d", "arg1");
    let bpftrace = Bpftrace::attach(&script, None);
    let both = ["fixture__callsites:generic", "fixture__callsites:many"];
    assert_eq!(attached(&["--pid", &pid]), both);
    assert_eq!(attached(&[path.to_str().unwrap()]), both, "without --pid");
    fixture.run("map_again");
    assert_eq!(attached(&["--pid", &pid]), both, "mapped twice");
    bpftrace.end();
    assert_eq!(attached(&["--pid", &pid]), [] as [&str; 0]);
    fixture.end();
}

/// Two callsites of one name have different fields: each is listed, and no command fits both.
#[test]
fn callsites_of_one_name_are_listed_each_by_its_fields() {
    let path = Build::Release.path(Linkage::Executable, 0);
    let text = printed(&[path.to_str().unwrap(), "--probe", "*:request"]);
    let lines = about(&text, "fixture__callsites:request");
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].ends_with("in 2 places"), "{text}");
    let mut arguments = [lines[2], lines[4]];
    arguments.sort_unstable();
    assert_eq!(arguments, ["arg0 span id", "arg0 span id, arg1 n (u64), arg2 text (text of arg3 bytes)"]);
}

/// The command is to be pasted into a shell, as root: the path and the names are another user's.
#[test]
fn no_command_is_printed_for_names_that_a_shell_or_bpftrace_reads_otherwise() {
    let path = Build::Release.path(Linkage::Executable, 0);
    for name in ["it's", "with blank", "a:b", "$(id)", "\u{e4}"] {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join(name);
        std::fs::copy(&path, &copy).unwrap();
        let text = printed(&[copy.to_str().unwrap(), "--probe", "*:small"]);
        assert_eq!(about(&text, "fixture__callsites:small").len(), 3, "{name}: {text}");
    }
    // A name in a note.
    let bytes = std::fs::read(&path).unwrap();
    let small = b"fixture__callsites\0small\0";
    let at = bytes.windows(small.len()).position(|window| window == small).unwrap();
    let patched = tempfile::NamedTempFile::new().unwrap();
    let mut patched_bytes = bytes.clone();
    patched_bytes[at + 19..at + 24].copy_from_slice(b"';\x1b[2");
    std::fs::write(&patched, patched_bytes).unwrap();
    let text = printed(&[patched.path().to_str().unwrap()]);
    assert!(!text.contains('\x1b') && !text.contains("fixture__callsites:';\u{241b}[2 {"), "{text}");
    assert!(text.contains("fixture__callsites:';"), "{text}");
}

#[test]
fn what_can_not_be_listed_is_explained() {
    let fails = |args: &[&str]| {
        let output = probes(args);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let path = Build::Release.path(Linkage::Executable, 0);
    assert!(fails(&["/nowhere"]).contains("can't open /nowhere"));
    assert!(fails(&["/proc/self/maps"]).contains("it is no 64-bit ELF executable or library"));
    let has_none = fails(&[e2e::program("spantap").to_str().unwrap()]);
    assert!(has_none.contains("has no probes; does it use the layer"), "{has_none}");
    assert!(fails(&["--pid", "2147483647"]).contains("can't read what process 2147483647 runs"));
    assert!(fails(&[path.to_str().unwrap(), "--probe", "nothing:*"]).contains("no probe is named"));
    let no_colon = fails(&[path.to_str().unwrap(), "--probe", PROVIDER]);
    assert!(no_colon.contains("has no colon"), "{no_colon}");
    // Half a file.
    let bytes = std::fs::read(&path).unwrap();
    let torn = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    let torn = fails(&[torn.path().to_str().unwrap()]);
    assert!(torn.contains("or only a part of one"), "{torn}");
    // A note whose size is beyond its section.
    let small = b"fixture__callsites\0small\0";
    let at = bytes.windows(small.len()).position(|window| window == small).unwrap();
    let mut damaged_bytes = bytes;
    damaged_bytes[at - 40..at - 36].copy_from_slice(&u32::MAX.to_le_bytes());
    let damaged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&damaged, damaged_bytes).unwrap();
    let output = probes(&[damaged.path().to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(" are damaged after "), "{stderr}");
}
