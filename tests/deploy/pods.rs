//! The files for Kubernetes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use e2e::{EBPF, Fixture, Rotel, Spantap, free_address, get, need, objects, program};
use serde_json::{Value, json};

use crate::confined::{Confined, NEEDS};
use crate::{deployed, spans_arrive};

const SIDECAR: &str = "kubernetes/sidecar.yaml";
const ATTACH: &str = "kubernetes/attach.yaml";

/// The first Kubernetes with sidecars by default, and the latest that the schemas have.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// The pod of the only object in a file.
fn pod(file: &str) -> Value {
    let objects = objects(&deployed(file), &VERSIONS);
    assert_eq!(objects.len(), 1);
    let labels = &objects[0]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&objects[0]["spec"]["selector"]["matchLabels"], labels);
    objects[0]["spec"]["template"]["spec"].clone()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn variable(container: &Value, name: &str) -> Value {
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).unwrap()["value"].clone()
}

/// The user of a container.
fn user(pod: &Value, container: &Value) -> u32 {
    let of = |context: &Value| context["runAsUser"].as_u64();
    let user = of(&container["securityContext"]).or_else(|| of(&pod["securityContext"]));
    user.unwrap().try_into().unwrap()
}

#[test]
fn the_sidecar_and_its_program_have_no_privileges() {
    if !need(&["python3", "kubernetes-validate"]) {
        return;
    }
    let pod = pod(SIDECAR);
    let of_pod = &pod["securityContext"];
    assert_eq!(
        (&of_pod["runAsNonRoot"], &of_pod["seccompProfile"]["type"]),
        (&true.into(), &"RuntimeDefault".into())
    );
    let (spantap, app) = (&pod["initContainers"][0], &pod["containers"][0]);
    for container in [spantap, app] {
        let mut context = container["securityContext"].as_object().unwrap().clone();
        context.remove("runAsUser");
        let expected = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(Value::from(context), expected);
    }
    let users = [user(&pod, spantap), user(&pod, app)];
    assert!(users[0] != users[1] && !users.contains(&0), "{users:?}");
    assert_eq!(spantap["restartPolicy"], "Always");
    for name in ["hostPID", "hostNetwork", "hostIPC"] {
        assert_eq!(pod[name], Value::Null);
    }
    // Both have the folder of the socket, and the program can't replace the socket.
    let mount = |of: &Value| of["volumeMounts"].as_array().unwrap()[0].clone();
    assert_eq!(mount(spantap), json!({ "name": "spans", "mountPath": "/run/spantap" }));
    assert_eq!(mount(app), json!({ "name": "spans", "mountPath": "/run/spantap", "readOnly": true }));
    assert_eq!(variable(app, "TRACING_USDT_SOCKET"), spantap["args"][1]);
}

/// With its user, no capabilities and a read-only file system, and the folder of the socket read-only for the program. spantap is
/// killed and started again, as Kubernetes does.
#[test]
fn the_sidecar_works_as_confined_as_its_pod_says_and_after_a_restart() {
    if !need(&[&NEEDS[..], &["python3", "kubernetes-validate", "rotel"]].concat()) {
        return;
    }
    let pod = pod(SIDECAR);
    let container = &pod["initContainers"][0];
    let [user_of_spantap, user_of_app] = [container, &pod["containers"][0]].map(|of| user(&pod, of));
    let [group, group_of_files] =
        ["runAsGroup", "fsGroup"].map(|name| pod["securityContext"][name].as_u64().unwrap() as u32);
    assert_eq!(group, group_of_files);
    let mut confined = Confined::new(user_of_spantap, &[]).with_group(group);
    let (run, spool) = (confined.writable("run", 0o770), confined.writable("spool", 0o770));
    let spantap = confined.copy(&program("spantap"));
    let metrics = free_address();
    let replace = |arg: String| {
        let arg = arg.replace("/run/spantap", run.to_str().unwrap());
        arg.replace("/var/lib/spantap", spool.to_str().unwrap()).replace(":9464", &metrics.to_string())
    };
    let command: Vec<String> =
        [spantap.clone()].into_iter().chain(texts(&container["args"]).into_iter().map(replace)).collect();
    let backend = Rotel::start();
    let endpoint = format!("http://localhost:{}", backend.http.port());
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    confined.start(&command, "0022", &variables);
    let path = container["startupProbe"]["httpGet"]["path"].as_str().unwrap();
    assert_eq!(container["startupProbe"]["httpGet"]["port"], container["ports"][0]["name"]);
    let is_up = || get(metrics, path).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    confined.wait_until("the startup probe succeeds", |_| is_up());
    let socket = run.join("trace.sock");
    assert!(socket.exists());

    // The program's user of the same group, for which the folder is read-only, also by way of spantap's processes.
    let setpriv =
        ["setpriv", "--reuid", &user_of_app.to_string(), "--regid", &group.to_string()].map(str::to_owned);
    let root = format!("/proc/{}/root/", confined.pid(&spantap));
    let mut look = Command::new(&setpriv[0]);
    let looked = look.args(&setpriv[1..]).args(["--clear-groups", "ls", &root]).output().unwrap();
    let said = String::from_utf8(looked.stderr).unwrap();
    assert!(!looked.status.success() && said.contains("Permission denied"), "{said}");
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let fixture = confined.copy(&crate::program());
    let mut app = Command::new("unshare");
    app.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", run.to_str().unwrap()]);
    app.args(setpriv).args(["--clear-groups", "--no-new-privs"]);
    app.args(["--bounding-set=-all", "--inh-caps=-all", "--", &fixture]);
    app.env("TRACING_USDT_FORMAT", variable(&pod["containers"][0], "TRACING_USDT_FORMAT").as_str().unwrap());
    app.env("TRACING_USDT_DELIVERY", "background");
    let mut fixture = Fixture::spawn(&mut app, Some(&socket));
    spans_arrive(&mut fixture, &backend, "    Name           : parent");

    confined.kill(&spantap);
    confined.start(&command, "0022", &variables);
    confined.wait_until("the startup probe succeeds", |_| is_up());
    e2e::wait_until("later spans arrive", || {
        fixture.run("below 1");
        backend.log().contains("    Name           : above")
    });
    fixture.end();
    let (status, _) = confined.end(&spantap);
    assert!(status.success(), "{status}: {}", confined.stderr());
}

/// The shell script of the container, with its capabilities as root.
#[test]
fn the_daemon_finds_its_program_and_attaches_with_its_capabilities() {
    if !need(&[&NEEDS[..], &EBPF, &["python3", "kubernetes-validate", "rotel"]].concat()) {
        return;
    }
    let pod = pod(ATTACH);
    assert_eq!(pod["hostPID"], true);
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    let expected = json!({
        "runAsUser": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["BPF", "PERFMON", "SYS_PTRACE"] },
    });
    assert_eq!(*context, expected);
    let names: Vec<String> =
        texts(&context["capabilities"]["add"]).iter().map(|name| name.to_lowercase()).collect();
    let mut confined = Confined::new(0, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let (spool, run) = (confined.writable("spool", 0o770), confined.writable("run", 0o770));
    let spantap = confined.copy(&program("spantap"));
    let app = confined.copy(&crate::program());
    let start = || {
        let mut app_of_user = Command::new("setpriv");
        Fixture::spawn(app_of_user.args(["--reuid", "64998", "--clear-groups", "--", &app]), None)
    };
    let here = |script: &str| {
        let script = script.replace("/var/lib/spantap", spool.to_str().unwrap());
        script.replace("/run/spantap", run.to_str().unwrap()).replace("sleep 5", "sleep 0.1")
    };
    let script = here(&texts(&container["args"])[0]);
    // As if it were installed.
    let path =
        format!("{}:{}", Path::new(&spantap).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let backend = Rotel::start();
    let endpoint = format!("http://localhost:{}", backend.http.port());
    let command = [texts(&container["command"]), vec![script]].concat();
    let variables = [("APP", &*app), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("PATH", &*path)];
    let probe = texts(&container["livenessProbe"]["exec"]["command"]);
    let is_alive = || {
        let mut command = Command::new(&probe[0]);
        command.args(probe[1..].iter().map(|arg| here(arg))).env("APP", &app).status().unwrap().success()
    };
    confined.start(&command, "0022", &variables);
    confined.wait_until("spantap waits", |this| this.stderr().contains("waiting for a process of "));
    assert!(is_alive());
    let mut fixture = start();
    confined.wait_until("spantap is attached", |this| this.stderr().contains("attached to "));
    spans_arrive(&mut fixture, &backend, "kernel.on_cpu_ns: Int(");
    assert!(is_alive());

    fixture.end();
    assert!(is_alive(), "there is no process");
    // A new version.
    std::fs::remove_file(&app).unwrap();
    confined.copy(&crate::program());
    let new = start();
    assert!(!is_alive());
    new.end();
    let (status, _) = confined.end(&spantap);
    assert!(status.success(), "{status}: {}", confined.stderr());
}

/// Two containers of an image have file systems of their own, over the same layer.
#[test]
fn attach_sees_all_containers_of_an_image() {
    if !need(&[&EBPF[..], &["unshare"]].concat()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["layer", "top"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::copy(crate::program(), folder.path().join("layer/app")).unwrap();
    let script = "cd \"$1\" && mount -t tmpfs none top && mkdir top/upper top/work top/all && \
                  mount -t overlay none -o lowerdir=layer,upperdir=top/upper,workdir=top/work top/all && \
                  exec top/all/app";
    let start = || {
        let mut container = Command::new("unshare");
        container.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(folder.path());
        Fixture::spawn(&mut container, None)
    };
    let mut containers = [start(), start()];
    let pids = containers.each_ref().map(Fixture::pid);
    // The liveness probe of the daemon compares the inodes: the devices differ.
    let files = pids.map(|pid| std::fs::metadata(format!("/proc/{pid}/exe")).unwrap());
    assert_eq!(files[0].ino(), files[1].ino());
    assert_ne!(files[0].dev(), files[1].dev());
    let spantap = Spantap::attach(&["--exe", &format!("/proc/{}/exe", pids[0]), "--quiet"]);
    containers.iter_mut().for_each(|container| _ = container.run("tree"));
    containers.into_iter().for_each(Fixture::end);
    let ended = spantap.terminate();
    for pid in pids {
        assert!(ended.stderr.contains(&format!("  fixture, pid {pid}, uid 0")), "{}", ended.stderr);
    }
}
