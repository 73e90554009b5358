//! chDB, which is ClickHouse as a Python package.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::build::workspace;

/// The folder of the package that `cargo xtask test` installs.
pub(crate) fn chdb() -> PathBuf {
    let version = include_str!("chdb.version").trim();
    workspace().join(format!("target/tools/chdb-core=={version}"))
}

/// A database of ClickHouse, in a folder that is removed with it.
pub struct ClickHouse(tempfile::TempDir);

impl ClickHouse {
    /// One without tables.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs statements one after the other. The rows of the last one, each by the names of its columns; numbers of 64 bits are numbers.
    pub fn run(&self, statements: &[&str]) -> Vec<Value> {
        let script = "import json, sys\n\
                      from chdb import session\n\
                      database = session.Session(sys.argv[1])\n\
                      for statement in sys.argv[2:]:\n\
                      \x20   rows = str(database.query(statement, 'JSONEachRow'))\n\
                      print(rows)";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(self.0.path().join("data")).args(statements);
        // A server far from UTC: times must not depend on its zone.
        let output = python.env("PYTHONPATH", chdb()).env("TZ", "America/New_York").output().unwrap();
        assert!(output.status.success(), "{statements:?}: {}", String::from_utf8_lossy(&output.stderr));
        let rows = String::from_utf8(output.stdout).unwrap();
        rows.lines().filter(|row| !row.is_empty()).map(|row| serde_json::from_str(row).unwrap()).collect()
    }
}
