//! DuckDB, which reads Parquet, by its Python package.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::build::workspace;

/// The folder of the package that `cargo xtask test` installs.
pub(crate) fn duckdb() -> PathBuf {
    let version = include_str!("duckdb.version").trim();
    workspace().join(format!("target/tools/duckdb=={version}"))
}

/// The rows that a query of DuckDB finds.
pub fn query(sql: &str) -> Vec<Value> {
    let script = "import duckdb, json, sys\n\
                  print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=str))";
    let mut python = Command::new("python3");
    let output =
        python.args(["-c", script, sql]).env("PYTHONPATH", duckdb()).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
