//! Checks that a crate's modules import in one direction only, so that a reader can begin at the lowest module.
//!
//! * The modules that a crate's root declares are its **parts**. They are listed here, from the lowest to the
//!   highest: a part imports only from parts before it.
//! * The children of a module do not import from each other in a circle. A child stands for all modules below it, so
//!   the rule covers files of a folder as well as folders.
//! * A module and its own children may import from each other: `delivery/mod.rs` declares `ring` and gives it a type.
//!   A path through a re-export counts as an import from the module that defines the item.
//! * Each file below `src` is in a listed part, or only tests compile it. Programs (`main.rs`, `bin`) are above all
//!   parts.
//! * A crate gives itself no second name (`extern crate self as`): imports through it would not be seen.
//!
//! The check reads the source and builds nothing. It also searches the arguments of macros for paths. It does not see a
//! name that a macro puts together.

mod graph;
mod tree;

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Result, bail};

use graph::Graph;
pub(crate) use tree::rust_files;
use tree::{Reference, Tree};

/// A crate, and its parts from the lowest to the highest.
struct Crate {
    name: &'static str,
    parts: &'static [&'static str],
}

const TRACING_USDT: Crate = Crate {
    name: "tracing-usdt",
    parts: &[
        "aside",
        "bounds",
        "bytes",
        "clock",
        "json",
        "protobuf",
        "sync",
        "process",
        "error",
        "propagation",
        "otel",
        "probes",
        "thread_context",
        "sampler",
        "site",
        "callsite",
        "on_demand",
        "fields",
        "span",
        "encode",
        "delivery",
        "layer",
        "log_lines",
        "builder",
        "probe_only",
        "macros",
        "tracing",
    ],
};

const TRACING_USDT_ATTRIBUTES: Crate =
    Crate { name: "tracing-usdt-attributes", parts: &["args", "function", "future", "expand"] };

const TRACING_USDT_TOWER: Crate =
    Crate { name: "tracing-usdt-tower", parts: &["otel", "request", "response", "client", "server"] };

const SPANTAP: Crate = Crate {
    name: "spantap",
    parts: &[
        "text",
        "replacement",
        "span",
        "process",
        "notes",
        "query",
        "decode",
        "encode",
        "capture",
        "flight",
        "trace",
        "open",
        "search",
        "findings",
        "graph",
        "diff",
        "view",
        "export",
        "sampling",
        "sink",
        "stats",
        "terminal",
        "metrics",
        "top",
        "pipeline",
        "source",
        "commands",
    ],
};

const CRATES: [Crate; 4] = [TRACING_USDT, TRACING_USDT_ATTRIBUTES, TRACING_USDT_TOWER, SPANTAP];

/// Checks all crates.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut out = stdout().lock();
    let mut count = 0;
    for Crate { name, parts } in CRATES {
        writeln!(out, "{name}, from the lowest part to the highest: {}", parts.join(", "))?;
        for fault in faults_of(&root.join("crates").join(name).join("src"), parts)? {
            writeln!(out, "  {fault}")?;
            count += 1;
        }
    }
    if count > 0 {
        bail!("{count} faults: modules that import in the wrong direction, or are not listed");
    }
    Ok(())
}

/// The faults of the crate whose `lib.rs` is in `source`, one line each.
fn faults_of(source: &Path, parts: &[&str]) -> Result<Vec<String>> {
    let tree = Tree::read(&source.join("lib.rs"))?;
    let mut faults = Vec::new();
    for file in rust_files(source)? {
        let is_program = file == source.join("main.rs") || file.starts_with(source.join("bin"));
        if !is_program && !tree.files.contains(&file) {
            faults.push(format!("{} belongs to no module", file.display()));
        }
    }
    for Reference { path, file, line } in tree.modules.values().flat_map(|module| &module.self_names) {
        let (file, name) = (file.strip_prefix(source).unwrap_or(file).display(), path.join("::"));
        faults.push(format!(
            "{file}:{line}: imports through `{name}`, another name of the crate, are not seen"
        ));
    }
    let graph = Graph::of(&tree, source);
    faults.extend(graph.wrong_parts(parts));
    faults.extend(graph.circles());
    Ok(faults)
}

#[cfg(test)]
mod tests;
