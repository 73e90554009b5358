//! Tables of `docs/wire.md` agree with the code, and with their copies in the crate documentation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Document, quoted};
use serde_json::Value;
use tracing_usdt::Dropped;

#[test]
fn the_reasons_of_losses_are_in_the_table() {
    let table = Document::wire().table("## Losses");
    let mut documented: Vec<String> =
        table.iter().flat_map(|row| quoted(&row[0]).map(str::to_owned)).collect();
    // The page explains that this reason is not a loss.
    documented.push("sampled_out".into());
    let of_the_code = format!("{:?}", Dropped::default());
    let of_the_code = of_the_code.trim_start_matches("Dropped {").trim_end_matches('}');
    let of_the_code: Vec<&str> =
        of_the_code.split(',').map(|field| field.split_once(':').unwrap().0.trim()).collect();
    assert_eq!(documented, of_the_code);
}

#[test]
fn the_attributes_of_the_layer_are_in_the_table() {
    let example: Value = serde_json::from_str(Document::wire().example("otlp")).unwrap();
    let order = &example["resourceSpans"][0]["scopeSpans"][0]["spans"][1];
    let attributes = order["attributes"].as_array().unwrap().iter();
    let of_the_layer = attributes
        .map(|attribute| attribute["key"].as_str().unwrap())
        .filter(|key| *key != "http.request.method");
    // The example has only attributes of complete spans that have ended.
    let others =
        ["tracing_usdt.shortened_values_count", "tracing_usdt.unfinished", "tracing_usdt.began_before"];
    let table = Document::wire().table("### Attributes");
    let documented: Vec<&str> = table.iter().flat_map(|row| quoted(&row[0])).collect();
    assert!(of_the_layer.chain(others).eq(documented.iter().copied()), "{documented:?}");
}

#[test]
fn the_crate_documentation_has_the_same_tables() {
    let (wire, crate_doc) = (Document::wire(), Document::crate_doc());
    assert_eq!(crate_doc.table("# The probes"), wire.table("## Probes"));
    assert_eq!(crate_doc.table("# Environment"), wire.table("## Environment"));
}

#[test]
fn spantap_knows_the_arguments_of_each_probe() {
    let table = Document::wire().table("## Probes");
    let mut known = spantap::notes::CONTRACT.iter();
    for row in table {
        let (name, arguments) = known.next().unwrap();
        assert_eq!(quoted(&row[0]).next(), Some(*name));
        let documented: Vec<&String> = row[1..].iter().filter(|cell| !cell.is_empty()).collect();
        assert_eq!(documented.len(), arguments.len(), "{name}");
        for (cell, (argument, _)) in documented.into_iter().zip(*arguments) {
            assert!(cell.starts_with(argument), "{name}: {cell:?}, and {argument:?} in spantap");
        }
    }
    assert_eq!(known.next(), None);
}

fn variables() -> BTreeSet<String> {
    let table = Document::wire().table("## Environment");
    table.iter().flat_map(|row| quoted(&row[0]).map(str::to_owned)).collect()
}

/// `each_variable_of_the_table_is_read` runs this test in a child process, with an environment.
#[test]
fn a_layer_of_the_environment() {
    drop(tracing_usdt::layer());
}

/// The value `?` is invalid for every variable but the service's name.
#[test]
fn each_variable_of_the_table_is_read() {
    let variables = variables();
    for variable in &variables {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tables::a_layer_of_the_environment", "--nocapture"]);
        for variable in &variables {
            child.env_remove(variable);
        }
        // `TRACESTATE` and `OTEL_TRACES_SAMPLER_ARG` are read only with these.
        child.env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        child.env("OTEL_TRACES_SAMPLER", "traceidratio").env(variable, "?");
        let output = child.current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = match &**variable {
            "TRACING_USDT_SOCKET" => "can't send spans to the socket /?: ".to_owned(),
            "OTEL_SERVICE_NAME" => String::new(),
            other => format!("{other}=\"?\" can't be used: "),
        };
        assert!(stderr.contains(&expected), "{variable}: {stderr}");
        assert_eq!(stderr.contains("tracing-usdt: "), !expected.is_empty(), "{variable}: {stderr}");
    }
}

/// The names of variables are literals in the layer's code, which reads the environment in one place.
#[test]
fn each_variable_that_the_layer_reads_is_in_the_table() {
    let mut found = BTreeSet::new();
    let mut places = 0;
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/tracing-usdt/src")) {
        let source = std::fs::read_to_string(&file).unwrap();
        let code: Vec<&str> = source.lines().take_while(|line| *line != "#[cfg(test)]").collect();
        let code: Vec<&str> = code.into_iter().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        places += code.matches("env::var").count();
        let literals = code.split('"').filter(|text| {
            let is_ours = text.starts_with("TRACING_USDT_") || text.starts_with("OTEL_");
            // The latter is the name of a mapping.
            (is_ours || matches!(*text, "BAGGAGE" | "TRACEPARENT" | "TRACESTATE"))
                && *text != "OTEL_CTX"
                && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        });
        found.extend(literals.map(str::to_owned));
    }
    assert_eq!(found, variables());
    assert_eq!(places, 1, "only `Builder::build` should read the environment");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
