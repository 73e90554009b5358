use std::fs;

use super::*;
use crate::process::Folder;

/// The faults of a crate with these files and parts.
fn faults(files: &[(&str, &str)], parts: &[&str]) -> Vec<String> {
    let folder = Folder::new().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    faults_of(folder.path(), parts).expect("files that can be read")
}

fn faults_of_two(low: &str, high: &str) -> Vec<String> {
    let files = [("lib.rs", "mod low; mod high;"), ("low.rs", low), ("high.rs", high)];
    faults(&files, &["low", "high"])
}

const UPWARDS: &str = "low.rs:1: `low` imports from `high`, which is above it";

#[test]
fn allows_imports_from_a_lower_part() {
    assert_eq!(faults_of_two("pub struct Low;", "use crate::low::Low; fn f(_: Low) {}"), [""; 0]);
}

#[test]
fn reports_imports_from_a_higher_part() {
    let sources = [
        "use crate::high::High;",
        "use super::high::High;",
        "use crate::{high::{self, High as Other}};",
        "use crate::high::*;",
        "fn f(_: crate::high::High) {}",
        "fn f() { use crate::high::High; }",
        "fn f() { crate::high::go(); }",
        "fn f() { println!(\"{}\", crate::high::NUMBER); }",
        "fn f() { thread_local! { static OF: u8 = { use crate::{high::NUMBER}; NUMBER }; } }",
        "macro_rules! m { () => { $crate::high::NUMBER }; }",
        "mod inner { use super::super::high::High; }",
        "use self::super::high::High;",
        "mod inner { use self::super::super::high::High; }",
    ];
    for source in sources {
        assert_eq!(
            faults_of_two(source, "pub struct High; pub const NUMBER: u8 = 1; pub fn go() {}"),
            [UPWARDS],
            "{source}"
        );
    }
}

#[test]
fn a_second_name_of_the_crate_is_a_fault() {
    let lib = "extern crate self as own; mod low; mod high;";
    let low = "fn f() { extern crate self as inner; }";
    let files = [("lib.rs", lib), ("low.rs", low), ("high.rs", "extern crate std as own_std;")];
    let message =
        |at, name| format!("{at}:1: imports through `{name}`, another name of the crate, are not seen");
    assert_eq!(faults(&files, &["low", "high"]), [message("lib.rs", "own"), message("low.rs", "inner")]);
}

#[test]
fn follows_re_exports_to_the_defining_module() {
    let files = |low| {
        let lib = "mod low; mod high; pub use high::High; pub use low::*;";
        [("lib.rs", lib), ("low.rs", low), ("high.rs", "pub struct High; fn f(_: crate::Low) {}")]
    };
    assert_eq!(faults(&files("pub struct Low;"), &["low", "high"]), [""; 0]);
    let upwards = faults(&files("pub struct Low; fn f(_: crate::High) {}"), &["low", "high"]);
    assert_eq!(upwards, [UPWARDS, "a circle in the crate: high -> low (high.rs:1), low -> high (low.rs:1)"]);
}

#[test]
fn ignores_names_of_other_crates_and_of_the_module_itself() {
    let low =
        "use std::fmt; use high_crate::high; struct Own; impl fmt::Debug for Own {} fn f() { high::go(); }";
    assert_eq!(faults_of_two(low, "pub fn go() {}"), [""; 0]);
}

#[test]
fn ignores_test_code() {
    let sources = [
        "#[cfg(test)] use crate::high::High;",
        "#[cfg(test)] mod tests { use crate::high::High; }",
        "#[cfg(all(test, unix))] mod tests { use crate::high::High; }",
        "struct Low; impl Low { #[cfg(test)] fn f(_: crate::high::High) {} }",
        "#[test] fn f() { crate::high::go(); }",
    ];
    for source in sources {
        assert_eq!(faults_of_two(source, "pub struct High; pub fn go() {}"), [""; 0], "{source}");
    }
    assert_eq!(faults_of_two("#[cfg(not(test))] use crate::high::High;", "pub struct High;"), [UPWARDS]);
}

#[test]
fn ignores_test_files() {
    let files = [
        ("lib.rs", "mod low; mod high;"),
        ("low.rs", "#[cfg(test)] mod tests; #[cfg(test)] #[path = \"others.rs\"] mod more;"),
        ("low/tests.rs", "mod inner; use crate::high::High;"),
        ("low/tests/inner.rs", "use crate::high::High;"),
        ("others.rs", "use crate::high::High;"),
        ("high.rs", "pub struct High;"),
        ("main.rs", "fn main() {}"),
        ("bin/other.rs", "fn main() {}"),
    ];
    assert_eq!(faults(&files, &["low", "high"]), [""; 0]);
}

#[test]
fn reports_a_circle_of_files_in_a_folder() {
    let files = [
        ("lib.rs", "mod part;"),
        ("part/mod.rs", "mod first; mod second; mod third;"),
        ("part/first.rs", "use super::second::Second;"),
        ("part/second.rs", "pub struct Second; fn f(_: crate::part::third::Third) {}"),
        ("part/third.rs", "pub struct Third; use super::first;"),
    ];
    let circle = "a circle in part: first -> second (part/first.rs:1), second -> third (part/second.rs:1), \
                  third -> first (part/third.rs:1)";
    assert_eq!(faults(&files, &["part"]), [circle]);
}

#[test]
fn reports_a_circle_of_folders_without_a_circle_of_files() {
    let files = [
        ("lib.rs", "mod part;"),
        ("part.rs", "mod one; mod two;"),
        ("part/one.rs", "pub mod a; pub mod b;"),
        ("part/one/a.rs", "use crate::part::two::c::C;"),
        ("part/one/b.rs", "pub struct B;"),
        ("part/two/mod.rs", "pub mod c; pub mod d;"),
        ("part/two/c.rs", "pub struct C;"),
        ("part/two/d.rs", "use super::super::one::b::B;"),
    ];
    let circle = "a circle in part: one -> two (part/one/a.rs:1), two -> one (part/two/d.rs:1)";
    assert_eq!(faults(&files, &["part"]), [circle]);
}

#[test]
fn allows_imports_between_a_folder_and_its_files() {
    let files = [
        ("lib.rs", "mod part;"),
        ("part/mod.rs", "mod inner; pub struct Outer; use inner::Inner;"),
        ("part/inner.rs", "use super::Outer; pub struct Inner(Outer);"),
    ];
    assert_eq!(faults(&files, &["part"]), [""; 0]);
}

#[test]
fn reads_the_files_of_all_platforms() {
    let files = [
        ("lib.rs", "mod low; mod high;"),
        ("low/mod.rs", "#[cfg_attr(not(unix), path = \"socket_none.rs\")] mod socket;"),
        ("low/socket.rs", "pub struct Socket;"),
        ("low/socket_none.rs", "use crate::high::High;"),
        ("high.rs", "pub struct High;"),
    ];
    let upwards = "low/socket_none.rs:1: `low` imports from `high`, which is above it";
    assert_eq!(faults(&files, &["low", "high"]), [upwards]);
}

#[test]
fn reports_unlisted_parts_and_files_without_a_module() {
    let files = [("lib.rs", "mod low; mod new;"), ("low.rs", ""), ("new.rs", ""), ("forgotten.rs", "")];
    let faults = faults(&files, &["low", "gone"]);
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(faults[0].ends_with("forgotten.rs belongs to no module"), "{faults:?}");
    assert!(faults[1].starts_with("the part `new` is not in the list"), "{faults:?}");
    assert!(faults[2].starts_with("there is no part `gone`"), "{faults:?}");
    assert_eq!(faults[3], "a possible order of the parts is [\"low\", \"new\"]");
}
