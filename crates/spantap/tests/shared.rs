//! Zipkin's shared spans: the client's half and the server's half have one id. spantap makes two spans of them.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use std::collections::HashMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use spantap::decode::Decoder;
use spantap::encode::Chunk;
use spantap::process::Sender;
use spantap::span::Summary;
use spantap::trace::tree::{Place, rows};
use spantap::trace::{Assembly, EncodedSpan, Limits, Shown, Trace};

const NOW: u64 = 1_767_225_600_000_000_000;
const TRACE: u128 = 0x463a_c35c_9f64_13ad;

/// A sender: a service and its pid.
type Of = (&'static str, u32);

const GATEWAY: Of = ("gateway", 1);
const STOCK: Of = ("stock", 2);

/// A span from the sender `of` that begins at the millisecond `ms`, with `more` members.
fn span(of: Of, name: &str, id: u64, parent: u64, ms: u64, more: &str) -> (u32, String) {
    let parent = if parent == 0 { String::new() } else { format!(r#""parentId":"{parent:x}","#) };
    let text = format!(
        r#"{{"traceId":"463ac35c9f6413ad","id":"{id:016x}",{parent}"name":"{name}","timestamp":{},"duration":1000,
        "localEndpoint":{{"serviceName":"{}"}}{more}}}"#,
        NOW / 1000 + ms * 1000,
        of.0
    );
    (of.1, text)
}

const CLIENT: &str = r#","kind":"CLIENT""#;
const SERVER: &str = r#","kind":"SERVER""#;
const SHARED: &str = r#","kind":"SERVER","shared":true"#;

/// The result of some datagrams.
struct Seen {
    /// The spans as they are forwarded, by name.
    spans: HashMap<String, Span>,
    trace: Trace,
}

/// Decodes and assembles datagrams. Each is from one sender.
fn send(datagrams: &[Vec<(u32, String)>]) -> Seen {
    let mut decoder = Decoder::default();
    let mut assembly = Assembly::new(Limits::default());
    let (mut spans, mut shown) = (HashMap::new(), Vec::new());
    let now = Instant::now();
    for datagram in datagrams {
        let texts: Vec<&str> = datagram.iter().map(|(_, text)| &**text).collect();
        let sender = Sender { pid: datagram[0].0, uid: 0, gid: 0 };
        let decoded = decoder.decode(format!("[{}]", texts.join(",")).as_bytes(), sender, NOW);
        assert_eq!(decoded.faults.iter().count(), 0);
        for (process, scopes) in decoded.processes {
            Chunk::encode_each(&process, &scopes, |_, span, bytes| {
                let encoded = EncodedSpan::new(&process, &Summary::of(span).unwrap(), bytes);
                assembly.add(encoded, now, &mut |trace| shown.push(trace.decode()));
                spans.insert(span.name.clone(), span.clone());
            });
        }
    }
    assembly.due(now + Duration::from_secs(6), &mut |trace| shown.push(trace.decode()));
    assert_eq!(shown.len(), 1);
    Seen { spans, trace: shown.remove(0) }
}

impl Seen {
    /// The tree as `depth:name`.
    fn outline(&self) -> String {
        let rows = rows(&self.trace);
        assert!(rows.iter().all(|row| matches!(row.place, Place::Root | Place::Child(_))), "{rows:?}");
        rows.iter().map(|row| format!("{}:{}", row.depth, row.span.span.name)).collect::<Vec<_>>().join(" ")
    }

    fn id(&self, name: &str) -> &[u8] {
        &self.spans[name].span_id
    }

    fn parent(&self, name: &str) -> &[u8] {
        &self.spans[name].parent_span_id
    }

    fn attribute(&self, name: &str, key: &str) -> Option<&str> {
        let found = self.spans[name].attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }

    fn all_ids_differ(&self) -> bool {
        let ids: std::collections::HashSet<&[u8]> = self.spans.keys().map(|name| self.id(name)).collect();
        ids.len() == self.spans.len()
            && self.trace.duplicates == 0
            && self.trace.spans.len() == self.spans.len()
    }
}

/// The gateway sends a request to stock. `shared` are the members of the server's half.
fn request(shared: &str) -> [(u32, String); 5] {
    [
        span(GATEWAY, "root", 0xa, 0, 0, SERVER),
        span(GATEWAY, "client", 0xc, 0xa, 1, CLIENT),
        span(GATEWAY, "connect", 0xd, 0xc, 2, ""),
        span(STOCK, "server", 0xc, 0xa, 3, shared),
        span(STOCK, "query", 0xe, 0xc, 4, CLIENT),
    ]
}

const OUTLINE: &str = "0:root 1:client 2:connect 2:server 3:query";

#[test]
fn the_servers_half_is_below_the_clients_and_gets_its_own_id() {
    let [root, client, connect, server, query] = request(SHARED);
    for datagrams in [
        vec![vec![root.clone(), client.clone(), connect.clone()], vec![server.clone(), query.clone()]],
        vec![vec![query.clone(), server.clone()], vec![connect.clone(), client.clone(), root.clone()]],
        vec![vec![server], vec![query], vec![client], vec![connect], vec![root]],
    ] {
        let seen = send(&datagrams);
        assert_eq!(seen.outline(), OUTLINE);
        assert!(seen.all_ids_differ());
        assert_eq!(seen.trace.shown, Shown::Complete);
        // The ids that a backend gets.
        assert_eq!(
            (seen.id("client"), seen.parent("client")),
            (&0xc_u64.to_be_bytes()[..], &0xa_u64.to_be_bytes()[..])
        );
        assert_eq!(seen.parent("server"), seen.id("client"));
        assert_eq!(seen.parent("connect"), seen.id("client"));
        assert_eq!(seen.parent("query"), seen.id("server"));
        // The ids that were sent.
        assert_eq!(seen.attribute("server", "zipkin.id"), Some("000000000000000c"));
        assert_eq!(seen.attribute("server", "zipkin.parent_id"), Some("000000000000000a"));
        assert_eq!(seen.attribute("query", "zipkin.parent_id"), Some("000000000000000c"));
        assert_eq!(seen.attribute("client", "zipkin.id"), None);
    }
}

#[test]
fn a_servers_half_without_the_flag_is_recognised_by_its_client() {
    let [root, client, connect, server, query] = request(SERVER);
    for datagrams in [
        vec![vec![root.clone(), client.clone(), connect.clone()], vec![server.clone(), query.clone()]],
        // An agent's datagram may have both.
        vec![vec![query.clone(), server.clone(), connect.clone(), client.clone(), root.clone()]],
    ] {
        let seen = send(&datagrams);
        assert_eq!(seen.outline(), OUTLINE);
        assert!(seen.all_ids_differ());
        assert_eq!(seen.id("client"), 0xc_u64.to_be_bytes());
        assert_eq!((seen.parent("server"), seen.parent("query")), (seen.id("client"), seen.id("server")));
    }
    // If the server's half comes first, it keeps the id. The tree is the same.
    let seen = send(&[vec![query, server], vec![connect, client, root]]);
    assert_eq!(seen.outline(), OUTLINE);
    assert!(seen.all_ids_differ());
    assert_eq!(seen.id("server"), 0xc_u64.to_be_bytes());
    assert_eq!((seen.parent("query"), seen.parent("connect")), (seen.id("server"), seen.id("client")));
    assert_eq!(seen.attribute("client", "zipkin.id"), Some("000000000000000c"));
}

/// The terminal shows the same tree in any order of the datagrams.
#[test]
fn a_child_that_comes_before_its_parents_half_is_below_it_in_the_tree() {
    let [root, client, connect, server, query] = request(SHARED);
    let seen = send(&[vec![query], vec![server], vec![connect], vec![client], vec![root]]);
    assert_eq!(seen.outline(), OUTLINE);
    // The span was forwarded to a backend before its real parent was known.
    assert_eq!(seen.parent("query"), seen.id("client"));
}

#[test]
fn a_half_gets_the_same_id_in_any_order() {
    let server = || vec![span(STOCK, "server", 0xc, 0xa, 3, SHARED)];
    let (one, other) =
        (send(&[server()]), send(&[vec![span(GATEWAY, "client", 0xc, 0xa, 1, CLIENT)], server()]));
    assert_eq!(one.id("server"), other.id("server"));
    // Another trace, id or service gives another id.
    let of = |text: String| {
        let decoded =
            Decoder::default().decode(text.as_bytes(), Sender { pid: STOCK.1, uid: 0, gid: 0 }, NOW);
        decoded.processes[0].1[0].spans[0].span_id.clone()
    };
    let text = format!("[{}]", server()[0].1);
    assert_eq!(of(text.clone()), one.id("server"));
    for (from, to) in [("463ac3", "463ac4"), ("000000000000000c", "000000000000000d"), ("stock", "stick")] {
        assert_ne!(of(text.replace(from, to)), one.id("server"), "{to}");
    }
}

#[test]
fn a_half_that_comes_twice_is_a_duplicate() {
    for shared in [SHARED, SERVER] {
        let [root, client, connect, server, query] = request(shared);
        let (both, again) = (vec![root, client.clone(), connect], vec![server.clone(), query]);
        let seen = send(&[both, again, vec![server], vec![client]]);
        assert_eq!((seen.outline(), seen.trace.duplicates), (OUTLINE.to_owned(), 2), "{shared}");
    }
}

/// A service that sends requests to another process of its own.
#[test]
fn halves_of_one_service_are_distinguished_by_process() {
    let (one, other) = (("shop", 1), ("shop", 2));
    let [root, client, connect] = [
        span(one, "root", 0xa, 0, 0, SERVER),
        span(one, "client", 0xc, 0xa, 1, CLIENT),
        span(one, "connect", 0xd, 0xc, 2, ""),
    ];
    let [server, query] =
        [span(other, "server", 0xc, 0xa, 3, SHARED), span(other, "query", 0xe, 0xc, 4, CLIENT)];
    let seen = send(&[vec![root, client, connect], vec![server, query]]);
    assert_eq!(seen.outline(), OUTLINE);
    assert_eq!((seen.parent("query"), seen.parent("connect")), (seen.id("server"), seen.id("client")));
    assert!(seen.all_ids_differ());
}

/// A proxy beside the service, such as Istio's, sends a half of its own.
#[test]
fn servers_of_two_services_with_one_id_are_two_spans() {
    let proxy = ("stock-proxy", 3);
    let seen = send(&[
        vec![span(GATEWAY, "client", 0xc, 0, 1, CLIENT)],
        vec![span(proxy, "proxy", 0xc, 0, 2, SHARED)],
        vec![span(STOCK, "server", 0xc, 0, 3, SHARED), span(STOCK, "query", 0xe, 0xc, 4, "")],
    ]);
    assert_eq!(seen.outline(), "0:client 1:proxy 1:server 2:query");
    assert!(seen.all_ids_differ());
}

/// A client repeats its request, and another instance of the service receives the second one.
#[test]
fn servers_of_one_service_with_one_id_are_two_spans() {
    let again = ("stock", 4);
    for shared in [SHARED, SERVER] {
        let seen = send(&[
            vec![span(GATEWAY, "client", 0xc, 0, 1, CLIENT)],
            vec![span(STOCK, "server", 0xc, 0, 2, shared), span(STOCK, "query", 0xe, 0xc, 3, "")],
            vec![span(again, "server again", 0xc, 0, 4, shared), span(again, "query again", 0xf, 0xc, 5, "")],
        ]);
        assert_eq!(seen.outline(), "0:client 1:server 2:query 1:server again 2:query again");
        assert!(seen.all_ids_differ());
    }
}

/// The client may send its spans elsewhere, or nowhere.
#[test]
fn a_servers_half_without_its_client_is_below_the_clients_parent() {
    let root = span(GATEWAY, "root", 0xa, 0, 0, SERVER);
    let seen = send(&[
        vec![root],
        vec![span(STOCK, "server", 0xc, 0xa, 3, SHARED), span(STOCK, "query", 0xe, 0xc, 4, "")],
    ]);
    assert_eq!(seen.outline(), "0:root 1:server 2:query");
}

/// Servers and clients with different ids are not changed, also if the flag is false, or is set on a client.
#[test]
fn spans_that_share_nothing_keep_their_ids() {
    let spans = vec![
        span(GATEWAY, "root", 0xa, 0, 0, r#","kind":"SERVER","shared":false"#),
        span(GATEWAY, "client", 0xc, 0xa, 1, r#","kind":"CLIENT","shared":true"#),
        span(STOCK, "server", 0xd, 0xc, 2, SERVER),
        span(STOCK, "query", 0xe, 0xd, 3, CLIENT),
        span(STOCK, "send", 0xf, 0xd, 4, r#","kind":"PRODUCER""#),
        span(STOCK, "own tag", 0x10, 0xd, 5, r#","kind":"SERVER","tags":{"zipkin.id":"000000000000000c"}"#),
    ];
    let seen = send(&[spans]);
    assert_eq!(seen.outline(), "0:root 1:client 2:server 3:query 3:send 3:own tag");
    assert_eq!(seen.id("own tag"), 0x10_u64.to_be_bytes());
    for (name, id) in [("root", 0xa), ("client", 0xc), ("server", 0xd), ("query", 0xe), ("send", 0xf_u64)] {
        assert_eq!(seen.id(name), id.to_be_bytes());
        assert!(
            seen.attribute(name, "zipkin.id").is_none() && seen.attribute(name, "zipkin.parent_id").is_none()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// For any distribution of the halves among datagrams, and any order of these.
    #[test]
    fn the_tree_does_not_depend_on_the_order_of_spans(
        order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(),
        cut in any::<[bool; 5]>(),
        has_flag in any::<bool>(),
    ) {
        let spans = request(if has_flag { SHARED } else { SERVER });
        let mut datagrams: Vec<Vec<(u32, String)>> = Vec::new();
        for (index, cut) in order.into_iter().zip(cut) {
            let span = spans[index].clone();
            match datagrams.last_mut().filter(|last| !cut && last[0].0 == span.0) {
                Some(last) => last.push(span),
                None => datagrams.push(vec![span]),
            }
        }
        let seen = send(&datagrams);
        prop_assert_eq!(seen.outline(), OUTLINE);
        prop_assert!(seen.all_ids_differ());
        prop_assert_eq!(seen.trace.id, TRACE);
    }
}
