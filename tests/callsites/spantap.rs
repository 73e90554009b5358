//! What `spantap probes` shows.

use std::path::Path;
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
    let [small, arguments, command] = about(&text, "fixture__callsites:small")[..] else { panic!("{text}") };
    assert!(
        small.starts_with("fixture__callsites:small  debug span, tests/fixture/src/callsites.rs:"),
        "{small}"
    );
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
        texts[1],
        "arg0 span id, arg1 nothing (text of arg2 bytes), arg3 reference (text of arg4 bytes), arg5 left (i32)"
    );
    let forty = about(&text, "fixture__callsites:forty");
    assert!(forty[1].ends_with("arg9 a8 (i32); no room for 31 fields"), "{forty:?}");
    assert!(about(&text, "fixture__callsites:twice")[0].ends_with("in 2 places"), "{text}");
    let exit = about(&text, "fixture__callsites:many__exit");
    assert_eq!(exit[1], "arg0 span id, arg1 duration in nanoseconds (u64)");
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
    let script = about(&text, "fixture__callsites:texts")[2].strip_prefix("bpftrace -e '").unwrap();
    let bpftrace = Bpftrace::attach(script.strip_suffix('\'').unwrap(), None);
    let mut fixture = start(&path, "none");
    fixture.run("kinds");
    fixture.end();
    assert_eq!(bpftrace.end(), [format!("{:016x} a text text", 0)]);
}

#[test]
fn the_consumers_of_a_process_are_counted() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let fixture = start(&path, "none");
    let pid = fixture.pid().to_string();
    let consumers = || {
        let text = printed(&["--pid", &pid]);
        let lines = text.lines().filter(|line| line.ends_with(" attached"));
        lines.map(|line| line.rsplit_once("  ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(consumers(), [] as [&str; 0]);
    let bpftrace = [1, 2].map(|_| Bpftrace::attach(&print(&path, "many", "%d", "arg1"), None));
    assert_eq!(consumers(), ["2 consumers attached"]);
    assert!(printed(&[path.to_str().unwrap()]).contains("  2 consumers attached"), "without --pid");
    bpftrace.into_iter().for_each(|bpftrace| drop(bpftrace.end()));
    assert_eq!(consumers(), [] as [&str; 0]);
    fixture.end();
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
    assert!(fails(&["--pid", "2147483647"]).contains("can't read the files of process 2147483647"));
    assert!(fails(&[path.to_str().unwrap(), "--probe", "nothing:*"]).contains("no probe is named"));
    let no_colon = fails(&[path.to_str().unwrap(), "--probe", PROVIDER]);
    assert!(no_colon.contains("has no colon"), "{no_colon}");
    // Half a file.
    let torn = tempfile::NamedTempFile::new().unwrap();
    let bytes = std::fs::read(Path::new(&path)).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    let torn = fails(&[torn.path().to_str().unwrap()]);
    assert!(torn.contains("can't read the probes of") || torn.contains("has no probes"), "{torn}");
}
