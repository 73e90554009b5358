//! Records of the `log` crate, which tracing-log turns into events.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use collector::Collector;
use serde_json::{Map, Value, json};
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_usdt::{Builder, Format};

mod database {
    /// The records below are logged two and three lines after this one.
    pub(crate) const LINE: u64 = line!() as u64;
    pub(crate) fn query() {
        log::warn!("a query took {} ms", 900);
        log::error!(target: "db::pool", "no connection");
    }
}

/// The annotations of a span in which `database::query` and an event of `tracing` happen.
fn annotations(collector: &Collector, builder: Builder) -> Vec<(String, Map<String, Value>)> {
    // Installs the bridge, which can be done once a process.
    let _ = tracing_subscriber::registry().try_init();
    with_default(tracing_subscriber::registry().with(builder.build()), || {
        info_span!("request").in_scope(|| {
            database::query();
            tracing::info!(target: "log", { log.target = "mine" }, "of our own");
        });
    });
    let span = collector.drain().remove(0);
    assert_eq!(span["tags"]["error"], "", "the error record fails its span");
    let annotations = span["annotations"].as_array().unwrap().iter();
    let one = |text: &Value| -> (String, Map<String, Value>) {
        let object: Map<String, Value> =
            serde_json::from_str(&format!("{{{}}}", text.as_str().unwrap())).unwrap();
        let (name, attributes) = object.into_iter().next().unwrap();
        (name, attributes.as_object().unwrap().clone())
    };
    annotations.map(|annotation| one(&annotation["value"])).collect()
}

#[test]
fn a_record_has_its_own_target_and_location_and_none_of_the_bridges_fields() {
    let collector = Collector::bind();
    let found = annotations(&collector, collector.builder());
    let module = concat!(module_path!(), "::database");
    for (n, (message, target, level)) in
        [("a query took 900 ms", module, "WARN"), ("no connection", "db::pool", "ERROR")]
            .into_iter()
            .enumerate()
    {
        let (name, attributes) = &found[n];
        assert_eq!(name, message);
        let expected = json!({
            "level": level,
            "target": target,
            "code.module.name": module,
            "code.file.path": file!(),
            "code.line.number": database::LINE + 2 + n as u64,
        });
        assert_eq!(*attributes, *expected.as_object().unwrap(), "{message}");
    }
    // The last event did not come through the bridge.
    let (name, attributes) = &found[2];
    assert_eq!(
        (&**name, &attributes["target"], &attributes["log.target"]),
        ("of our own", &json!("log"), &json!("mine"))
    );
}

#[test]
fn a_records_target_and_location_can_be_left_out() {
    let collector = Collector::bind();
    let keys = |builder| -> Vec<String> { annotations(&collector, builder)[0].1.keys().cloned().collect() };
    let location = ["code.file.path", "code.line.number", "code.module.name"];
    assert_eq!(keys(collector.builder().with_target(false).with_level(false)), location);
    assert_eq!(keys(collector.builder().with_location(false)), ["level", "target"]);
}

#[test]
fn otlp_has_a_records_location_with_its_types() {
    let collector = Collector::bind();
    let _ = tracing_subscriber::registry().try_init();
    let layer = collector.builder().with_format(Format::OtlpJson).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("request").in_scope(|| log::info!(target: "db", "said"));
    });
    let request: Value = serde_json::from_str(&collector.drain_text()[0]).unwrap();
    let event = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["events"][0];
    let of = |key: &str| {
        let mut all =
            event["attributes"].as_array().unwrap().iter().filter(|attribute| attribute["key"] == key);
        let found = all.next().map(|attribute| attribute["value"].clone());
        assert!(all.next().is_none(), "{key} comes twice");
        found
    };
    assert_eq!(of("target"), Some(json!({"stringValue": "db"})));
    assert_eq!(of("level"), Some(json!({"stringValue": "INFO"})));
    assert_eq!(of("code.module.name"), Some(json!({"stringValue": module_path!()})));
    assert!(of("code.line.number").unwrap()["intValue"].is_string());
    assert_eq!(of("log.target"), None);
}
