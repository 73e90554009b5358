//! What bpftrace sees of the hits.

use e2e::{BPFTRACE, Bpftrace, Build, Linkage, need};

use super::{PROVIDER, event, hits, print, start};

/// Each probe of `kinds`, with what bpftrace prints of its first five fields. (bpftrace before 0.24 reads no more than
/// six arguments on x86-64.)
const KINDS: [(&str, &str, &str, &str); 9] = [
    (
        "unsigned",
        "%llu %llu %llu %llu %llu",
        "arg1, arg2, arg3, arg4, arg5",
        "200 60000 4000000000 18446744073709551615 7",
    ),
    (
        "signed",
        "%lld %lld %lld %lld %lld",
        "arg1, arg2, arg3, arg4, arg5",
        "-100 -30000 -2000000000 -9223372036854775808 -7",
    ),
    ("small", "%lld %lld %lld %lld %lld", "arg1, arg2, arg3, arg4, arg5", "1 0 1 -1 12"),
    ("texts", "%s|%s", "str(arg1, arg2), str(arg3, arg4)", "a text|text"),
    ("more_texts", "%d|%s|%lld", "arg2, str(arg3, arg4), arg5", "0|a text|1"),
    (
        "formatted",
        "%s|%s|%s|%s|%s",
        "str(arg1), str(arg2), str(arg3), str(arg4), str(arg5)",
        "1.5|340282366920938463463374607431768211455|a text|\"a text\"|",
    ),
    (
        "some",
        "%s|%s|%s",
        "str(arg1), str(arg2), str(arg3)",
        "5||an error occurred when formatting an argument",
    ),
    (MESSAGE, "%s|%lld", "str(arg1), arg2", "a message with a text|42"),
    ("a_name", "%lld", "arg1", "-42"),
];

/// Stands for the name of the event without a name.
const MESSAGE: &str = "MESSAGE";

fn assert_kinds(build: Build, linkage: Linkage) {
    let path = build.path(linkage, 0);
    let message = event("debug", "a message with");
    let name = |probe| if probe == MESSAGE { &*message } else { probe };
    let script: String =
        KINDS.iter().map(|(probe, format, values, _)| print(&path, name(probe), format, values)).collect();
    let expected: Vec<String> =
        KINDS.iter().map(|(probe, _, _, printed)| format!("{} {printed}", name(probe))).collect();
    for stack in ["none", "fmt", "info", "plain"] {
        let found = hits(&path, linkage, stack, &script, &["kinds"]);
        assert_eq!(found, expected, "{build:?} {linkage:?} {stack}");
        if linkage == Linkage::Cdylib {
            return; // has only one stack
        }
    }
}

#[test]
fn each_kind_of_field_arrives_whether_or_not_a_subscriber_wants_it() {
    if need(&BPFTRACE) {
        assert_kinds(Build::Release, Linkage::Executable);
        assert_kinds(Build::Debug, Linkage::Cdylib);
    }
}

#[test]
#[ignore = "deep: builds eight times"]
fn each_kind_of_field_arrives_in_every_build() {
    if !need(&BPFTRACE) || !need(&["target:x86_64-unknown-linux-musl"]) {
        return;
    }
    for build in [
        Build::Debug,
        Build::Fastest,
        Build::Smallest,
        Build::Bfd,
        Build::NoPie,
        Build::StaticGlibc,
        Build::Musl,
    ] {
        assert_kinds(build, Linkage::Executable);
    }
    assert_kinds(Build::Smallest, Linkage::Cdylib);
}

#[test]
fn every_hit_arrives_and_each_entry_has_an_exit() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let count = |probe| {
        let path = path.display();
        format!("usdt:{path}:{PROVIDER}:{probe} {{ @{probe} = count(); @with_id += arg0 != 0; }}\n")
    };
    for (stack, with_id) in [("none", 0), ("fmt", 0), ("info", 4000), ("plain", 4000)] {
        let script = count("many") + &count("many__exit");
        let mut found = hits(&path, Linkage::Executable, stack, &script, &["many 2000"]);
        found.sort_unstable();
        let expected =
            ["@many: 2000".to_owned(), "@many__exit: 2000".to_owned(), format!("@with_id: {with_id}")];
        assert_eq!(found, expected, "{stack}");
    }
}

#[test]
fn names_become_names_of_probes_and_all_callsites_of_a_name_fire() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let script = [
        print(&path, "GET__orders__id___quoted___", "%d", "arg0"),
        print(&path, "from_a_constant", "%d", "arg0"),
        print(&path, "twice", "%lld", "arg1"),
        print(&path, "generic", "%s", "str(arg1)"),
    ]
    .concat();
    let found = hits(&path, Linkage::Executable, "none", &script, &["names"]);
    let expected = [
        "GET__orders__id___quoted___ 0",
        "from_a_constant 0",
        "twice 1",
        "twice 2",
        "generic 1",
        "generic text",
    ];
    assert_eq!(found, expected);
}

#[test]
fn of_many_fields_the_first_ones_arrive_and_a_value_that_panics_does_no_harm() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let script = [
        print(&path, "forty", "%lld %lld %lld %lld %lld", "arg1, arg2, arg3, arg4, arg5"),
        print(&path, &event("trace", "trace!(broken"), "%s %lld", "str(arg1), arg2"),
        print(&path, "broken", "%s %lld", "str(arg1), arg2"),
        print(&path, "broken__exit", "%d", "arg0"),
    ]
    .concat();
    let broken = "(panicked while it was formatted) 3";
    let expected = [
        "forty 0 1 2 3 4".to_owned(),
        format!("{} {broken}", event("trace", "trace!(broken")),
        format!("broken {broken}"),
    ];
    for stack in ["none", "fmt", "info"] {
        let bpftrace = Bpftrace::attach(&script, None);
        let mut fixture = start(&path, stack);
        fixture.run("forty");
        assert_eq!(fixture.run("panics"), "survived", "{stack}");
        fixture.end();
        let found = bpftrace.end();
        assert_eq!(found[..3], expected, "{stack}");
    }
}

#[test]
fn fields_are_evaluated_only_while_someone_looks_and_then_once() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let counts = event("debug", "count = count()");
    for stack in ["none", "fmt", "info"] {
        let mut fixture = start(&path, stack);
        assert_eq!(fixture.run("evaluated"), "evaluated 0 times, enabled: false", "{stack}");
        let bpftrace = Bpftrace::attach(&print(&path, &counts, "%lld", "arg2"), Some(fixture.pid()));
        assert_eq!(fixture.run("evaluated"), "evaluated 1 times, enabled: false", "{stack}");
        assert_eq!(bpftrace.end(), [format!("{counts} 1")], "{stack}");
        assert_eq!(
            fixture.run("evaluated"),
            "evaluated 0 times, enabled: false",
            "{stack}: after the detach"
        );
        fixture.end();
    }
    // A subscriber wants it too.
    let bpftrace = Bpftrace::attach(&print(&path, &counts, "%lld", "arg2"), None);
    let mut fixture = start(&path, "plain");
    assert_eq!(fixture.run("evaluated"), "evaluated 1 times, enabled: true");
    fixture.end();
    assert_eq!(bpftrace.end(), [format!("{counts} 1")]);
}
