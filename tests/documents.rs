//! Everything that the documents refer to exists: files, headings, and the paths and types in ARCHITECTURE.md. These lead
//! a newcomer through the code, and a moved file would make them wrong.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Where the paths of ARCHITECTURE.md begin.
const ROOTS: [&str; 4] = ["", "docs", "crates/tracing-usdt/src", "crates/spantap/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every document that people read.
fn documents() -> Vec<PathBuf> {
    let folders = ["", ".github", ".github/ISSUE_TEMPLATE", "docs", "examples/bpftrace"];
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.map(|folder| root().join(folder)).into_iter().chain(crates);
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    // A package's CHANGELOG is a link to the one at the root, which is read there.
    files.filter(|path| path.extension().is_some_and(|of| of == "md") && !path.is_symlink()).collect()
}

/// The document without its code blocks, in which brackets have other meanings.
fn prose(document: &Path) -> String {
    let text = fs::read_to_string(document).unwrap();
    text.split("```").step_by(2).collect()
}

/// The targets of links: of inline links and of link definitions.
fn links(prose: &str) -> Vec<String> {
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let definition = |line: &'_ str| Some(line.strip_prefix('[')?.split_once("]: ")?.1.to_owned());
    inline.map(str::to_owned).chain(prose.lines().filter_map(definition)).collect()
}

/// The anchors that a forge makes of a document's headings.
fn anchors(document: &Path) -> Vec<String> {
    let text = prose(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut broken = Vec::new();
    let mut found = 0;
    for document in documents() {
        for link in links(&prose(&document)).iter().filter(|link| !link.starts_with("http")) {
            found += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            let is_heading = || anchor.is_empty() || anchors(&target).iter().any(|heading| heading == anchor);
            if !target.exists() || !is_heading() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(found > 60, "only {found} links were found");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn paths_in_the_architecture_exist() {
    let text = prose(&root().join("docs/ARCHITECTURE.md"));
    let is_path =
        |word: &&str| word.contains('/') || [".rs", ".h", ".c", ".md"].iter().any(|end| word.ends_with(end));
    let paths: Vec<&str> = quoted(&text).filter(is_path).collect();
    assert!(paths.len() > 60, "only {} paths were found", paths.len());
    let is_there = |path: &str| ROOTS.iter().any(|from| root().join(from).join(path).exists());
    let missing: Vec<&str> = paths.into_iter().filter(|path| !is_there(path)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// What is between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether Rust or C code declares `name`, such as `Ring`, `UsdtLayer::begin` or `struct thread`.
fn declares(code: &str, name: &str) -> bool {
    let is_end = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    let follows = |before: &str, name: &str| {
        code.match_indices(before)
            .any(|(at, _)| code[at + before.len()..].strip_prefix(name).is_some_and(is_end))
    };
    if name.contains(' ') {
        // In C, the same words without a brace are a use.
        return code.contains(&format!("{name} {{"));
    }
    let name = name.rsplit("::").next().unwrap_or(name);
    ["struct ", "enum ", "trait ", "type ", "fn ", "macro_rules! "].iter().any(|word| follows(word, name))
}

#[test]
fn types_in_the_architecture_are_in_the_files_of_their_row() {
    let text = prose(&root().join("docs/ARCHITECTURE.md"));
    let mut rows = 0;
    let mut missing = Vec::new();
    for section in text.split("All paths in this table are below `").skip(1) {
        let (folder, table) = section.split_once('`').unwrap();
        let read = |path| fs::read_to_string(root().join(folder).join(path)).unwrap_or_default();
        let rows_of_table = table.lines().skip_while(|line| !line.starts_with('|')).skip(2);
        for row in rows_of_table.take_while(|line| line.starts_with('|')) {
            rows += 1;
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            let [_, types, files] = cells[..] else { panic!("not three columns: {row}") };
            let code: Vec<String> = quoted(files).map(read).collect();
            for name in quoted(types).filter(|name| !code.iter().any(|code| declares(code, name))) {
                missing.push(format!("`{name}` is declared in none of the row's files: {row}"));
            }
        }
    }
    assert!(rows > 40, "only {rows} rows were found");
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md:\n{}", missing.join("\n"));
}

/// `cargo xtask test` holds that imports follow these orders; this is for those who read them elsewhere.
#[test]
fn the_parts_have_the_same_order_in_every_document() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let words = |text: &str| -> Vec<String> {
        let is_part = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(is_part);
        words.map(str::to_owned).collect()
    };
    let between = |text: &str, start: &str, end: &str| -> String {
        let rest = text.split_once(start).unwrap_or_else(|| panic!("no {start:?}")).1;
        rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} after {start:?}")).0.to_owned()
    };
    let (imports, architecture) = (read("crates/xtask/src/imports.rs"), read("docs/ARCHITECTURE.md"));
    let checked = |name: &str| {
        let of_crate = between(&imports, &format!("name: \"{name}\","), "]");
        words(of_crate.split_once("parts: &[").unwrap().1)
    };
    for name in ["tracing-usdt", "tracing-usdt-attributes", "tracing-usdt-tower", "spantap"] {
        let rest = between(&architecture, &format!("* **{name}**: "), "\n\n");
        let drawn = rest.split("\n*").next().unwrap();
        assert_eq!(words(drawn), checked(name), "{name} in ARCHITECTURE.md");
    }
    let layer = read("crates/tracing-usdt/src/lib.rs");
    let table = between(&layer, "//! | module | what it does |\n//! |---|---|\n", "//!\n");
    let rows: Vec<String> = table.lines().map(|row| quoted(row).next().unwrap().to_owned()).collect();
    assert_eq!(rows, checked("tracing-usdt"), "the layer's lib.rs");
    let spantap = between(&read("crates/spantap/src/lib.rs"), "before it in this list:", "\n\n");
    let list = between(&spantap, "```text\n", "```");
    assert_eq!(words(&list), checked("spantap"), "spantap's lib.rs");
}

/// cargo packs only what is below a crate, and a link would be packed as the path that it contains.
#[test]
fn each_published_crate_has_the_licences() {
    for name in ["spantap", "tracing-usdt", "tracing-usdt-attributes", "tracing-usdt-tower"] {
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let of_crate = root().join("crates").join(name).join(licence);
            assert!(fs::symlink_metadata(&of_crate).unwrap().is_file(), "{}", of_crate.display());
            assert!(
                fs::read(&of_crate).unwrap() == fs::read(root().join(licence)).unwrap(),
                "{}",
                of_crate.display()
            );
        }
    }
}
