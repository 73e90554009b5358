//! Files for Kubernetes, checked against its schemas by the Python package `kubernetes-validate`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::build::workspace;

/// The folder of the package that `cargo xtask test` installs.
pub(crate) fn kubernetes_validate() -> PathBuf {
    let version = include_str!("kubernetes_validate.version").trim();
    workspace().join(format!("target/tools/kubernetes-validate=={version}"))
}

/// The objects in a file. Each has to have only fields that these versions of Kubernetes know, with their types.
pub fn objects(file: &Path, versions: &[&str]) -> Vec<Value> {
    let script = "import json, sys, yaml\n\
                  from kubernetes_validate import validate\n\
                  objects = list(yaml.safe_load_all(open(sys.argv[1])))\n\
                  for version in sys.argv[2:]:\n\
                  \x20   for one in objects:\n\
                  \x20       validate(one, version, strict=True)\n\
                  print(json.dumps(objects))";
    let mut python = Command::new("python3");
    let output =
        python.args(["-c", script]).arg(file).args(versions).env("PYTHONPATH", kubernetes_validate());
    let output = output.output().unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
