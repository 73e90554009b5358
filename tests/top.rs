//! `spantap top`: what is on its screen, in a real terminal.
//!
//! Screens are compared with files in `screens`. After an intended change, run this command and read its `git diff`:
//!
//! ```sh
//! UPDATE_GOLDEN=1 cargo test -p e2e --test top
//! ```
//!
//! It writes the files, and fails if any of them has changed, so that it can't pass by accident in CI.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::{File, write};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e::{Build, Fixture, Linkage, Process, Spantap, Terminal, get, program, send_bytes, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NOON_NS: u64 = 1_800_000_000_000_000_000;
const MS: u64 = 1_000_000;

fn check(name: &str, screen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("screens").join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && screen != expected {
        write(&path, screen).unwrap();
    }
    assert!(screen == expected, "{} has\n{expected}\nbut the screen has\n{screen}", path.display());
}

fn top(args: &[&str], columns: u16, rows: u16) -> Terminal {
    let mut command = Command::new(program("spantap"));
    command.arg("top").args(args);
    Terminal::start(command, columns, rows)
}

fn attribute(key: &str, value: impl Into<Value>) -> Value {
    let value = value.into();
    let value = match value.as_u64() {
        Some(number) => json!({ "intValue": number.to_string() }),
        None => json!({ "stringValue": value }),
    };
    json!({ "key": key, "value": value })
}

/// A span for a file of OTLP in JSON. Its times are nanoseconds after noon.
fn span(trace: u64, id: u64, parent: u64, name: &str, (from, to): (u64, u64), more: Value) -> Value {
    let mut span = json!({
        "traceId": format!("{trace:032x}"),
        "spanId": format!("{:016x}", trace << 8 | id),
        "name": name,
        "startTimeUnixNano": (NOON_NS + from).to_string(),
        "endTimeUnixNano": (NOON_NS + to).to_string(),
    });
    if parent > 0 {
        span["parentSpanId"] = format!("{:016x}", trace << 8 | parent).into();
    }
    span.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    span
}

fn request(service: &str, scope: &str, spans: &[Value]) -> String {
    let resource = json!({ "attributes": [attribute("service.name", service)] });
    let scopes = json!([{ "scope": { "name": scope }, "spans": spans }]);
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": scopes }] }).to_string()
}

/// Three services in 200 traces, one each 100 ms. A `web` asks the `shop`, which asks the `db`. Each 20th query takes 300 ms
/// and not some 3, most of it for the disk, and each 50th order fails.
fn shop(folder: &Path) -> PathBuf {
    let mut lines = Vec::new();
    for trace in 1..=200_u64 {
        let at = trace * 100 * MS;
        let query = if trace % 20 == 0 { 300 * MS } else { 2 * MS + trace % 10 * MS / 4 };
        let failed = trace % 50 == 0;
        let order = (at + MS, at + 2 * MS + query);
        let states = json!({ "kind": 3, "attributes": [
            attribute("db.query.text", "select * from orders where id = 7"),
            attribute("kernel.on_cpu_ns", MS),
            attribute("kernel.disk_ns", query - MS),
        ]});
        let error = json!({
            "kind": 2,
            "status": { "code": 2, "message": "the card was declined" },
            "attributes": [attribute("order", 7_u64), attribute("user", "ada")],
            "events": [{ "name": "card checked", "timeUnixNano": (NOON_NS + order.0 + MS / 2).to_string() }],
        });
        let good = json!({ "kind": 2, "attributes": [attribute("order", 7_u64)] });
        let below = (order.0 + MS / 2, order.0 + MS / 2 + query);
        let wait = (below.0 + MS, below.1);
        lines.push(request("db", "spantap.kernel", &[span(trace, 4, 3, "block read", wait, json!({}))]));
        lines.push(request("db", "db", &[span(trace, 3, 2, "SELECT orders", below, states)]));
        lines.push(request(
            "shop",
            "shop",
            &[span(trace, 2, 1, "place_order", order, if failed { error } else { good })],
        ));
        let whole = (at, order.1 + MS);
        lines.push(request("web", "web", &[span(trace, 1, 0, "POST /orders", whole, json!({ "kind": 2 }))]));
    }
    let path = folder.join("shop.jsonl");
    write(&path, lines.join("\n") + "\n").unwrap();
    path
}

/// Waits until the file was read and the figures are those of all of it.
fn has_read(terminal: &Terminal) -> String {
    terminal.wait_until("all spans", |screen| screen.contains("600 spans") && !screen.contains("reading"))
}

#[test]
fn a_file_is_shown_as_figures_traces_and_services() {
    let folder = tempfile::tempdir().unwrap();
    let _ = shop(folder.path());
    for (columns, rows) in [(80, 24), (140, 40)] {
        let mut command = Command::new(program("spantap"));
        command.args(["top", "shop.jsonl"]).current_dir(folder.path());
        let mut terminal = Terminal::start(command, columns, rows);
        let name = |page: &str| format!("{page}-{columns}x{rows}");
        has_read(&terminal);
        // What was read last is on the screen half a second later.
        thread::sleep(Duration::from_secs(1));
        check(&name("spans"), &terminal.settled("SELECT orders"));
        terminal.press("4");
        check(&name("services"), &terminal.settled("TIME IN CALLS"));
        terminal.press("2");
        check(&name("traces"), &terminal.settled("DURATION"));
        // The first one is the slowest.
        terminal.press("\r");
        check(&name("trace"), &terminal.settled("on the critical path"));
        terminal.press("?");
        check(&name("help"), &terminal.settled("half a page down"));
        terminal.press("q");
        let (status, screen) = terminal.wait();
        assert!(status.success(), "{status} {screen}");
    }
}

/// Carts that are loaded item by item, and orders that fail from the middle on.
fn carts(folder: &Path) -> PathBuf {
    let mut lines = Vec::new();
    for trace in 1..=100_u64 {
        let at = trace * 100 * MS;
        let query = |item: u64| json!({ "kind": 3, "attributes": [attribute("db.query.text", "SELECT ?"), attribute("item", item)] });
        let mut spans = vec![span(trace, 1, 0, "GET /cart", (at, at + 40 * MS), json!({ "kind": 2 }))];
        for item in 0..20 {
            let from = at + (item + 1) * MS;
            spans.push(span(trace, item + 2, 1, "load_item", (from, from + MS), query(item)));
        }
        let failed =
            json!({ "kind": 3, "status": { "code": 2, "message": format!("no answer in {trace} ms") } });
        let charge = if trace > 50 && trace % 2 == 0 { failed } else { json!({ "kind": 3 }) };
        spans.push(span(trace, 40, 1, "charge", (at + 30 * MS, at + 35 * MS), charge));
        lines.push(request("shop", "shop", &spans));
    }
    let path = folder.join("carts.jsonl");
    write(&path, lines.join("\n") + "\n").unwrap();
    path
}

#[test]
fn findings_are_a_page_and_open_their_trace() {
    let folder = tempfile::tempdir().unwrap();
    let _ = carts(folder.path());
    for (columns, rows) in [(80, 24), (140, 40)] {
        let mut command = Command::new(program("spantap"));
        command.args(["top", "carts.jsonl"]).current_dir(folder.path());
        let mut terminal = Terminal::start(command, columns, rows);
        terminal
            .wait_until("all spans", |screen| screen.contains("2,200 spans") && !screen.contains("reading"));
        terminal.wait_for("6 Findings!");
        terminal.press("6");
        terminal.wait_for("100 traces since");
        check(&format!("findings-{columns}x{rows}"), &terminal.settled("charge fails with"));
        // The second is that of the most time.
        terminal.press("j");
        terminal.wait_for("GET /cart calls load_item 20 times");
        terminal.press("\r");
        let screen = terminal.settled("on the critical path");
        assert!(screen.contains("load_item") && screen.contains("22 spans"), "{screen}");
        terminal.press("\x1b");
        let screen = terminal.settled("GET /cart calls load_item 20 times");
        // The mouse selects, and looks closer.
        click(&mut terminal, &screen, "new error");
        terminal.wait_for("charge fails with");
        click(&mut terminal, &screen, "new error");
        let screen = terminal.settled("on the critical path");
        assert!(screen.contains("1 error"), "{screen}");
        terminal.press("q");
        assert!(terminal.wait().0.success());
    }
}

#[test]
fn figures_are_right_and_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop(folder.path());
    let mut terminal = top(&[file.to_str().unwrap()], 140, 30);
    has_read(&terminal);
    let row = |screen: &str, name: &str| -> String {
        screen.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned()
    };
    thread::sleep(Duration::from_secs(1));
    let screen = terminal.text();
    // 200 spans in 20.2 s; 10 of them of 300 ms; 4 failed.
    let db = row(&screen, "SELECT orders");
    assert!(db.contains(" 9.9 ") && db.contains(" 0 ") && db.contains(" 300 ms"), "{db}");
    assert!(row(&screen, "place_order").contains(" 2.0 "), "2 % have failed\n{screen}");
    // The account: all of the time of the query is known, most of the slow ones' was for the disk.
    assert!(db.contains('▄') && db.contains('█') && !db.contains('▓'), "{db}");
    assert!(!screen.contains("block read"), "the kernel is not called\n{screen}");
    // By P95 at first; then by the column to the left, inverted.
    let order = |screen: &str| {
        let names = ["POST /orders", "place_order", "SELECT orders"];
        let mut places: Vec<_> = names.iter().map(|name| (screen.find(name), *name)).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
    };
    assert_eq!(order(&screen), ["POST /orders", "place_order", "SELECT orders"]);
    terminal.press("hi");
    let screen = terminal.wait_for("▲P50");
    assert_eq!(order(&screen), ["SELECT orders", "place_order", "POST /orders"]);
    terminal.press("g\r");
    let screen = terminal.wait_for("traces with db SELECT orders");
    assert!(screen.contains("302 ms") || screen.contains("303 ms"), "{screen}");
    terminal.press("\x1b");
    terminal.wait_for("▲P50");
}

/// A click with the left button. Columns and rows are counted from 1.
fn click(terminal: &mut Terminal, screen: &str, text: &str) {
    let (row, line) = screen.lines().enumerate().find(|(_, line)| line.contains(text)).unwrap();
    let before = line.split(text).next().unwrap().chars().count();
    terminal.press(&format!("\x1b[<0;{};{}M", before + 2, row + 1));
}

#[test]
fn the_mouse_sorts_selects_and_goes_to_pages() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop(folder.path());
    let mut terminal = top(&[file.to_str().unwrap()], 140, 30);
    let screen = has_read(&terminal);
    click(&mut terminal, &screen, "MAX");
    let screen = terminal.wait_for("▼MAX");
    click(&mut terminal, &screen, "MAX");
    let screen = terminal.wait_for("▲MAX");
    // A click selects, and another one looks closer.
    click(&mut terminal, &screen, "place_order");
    let screen = terminal.settled("▲MAX");
    click(&mut terminal, &screen, "place_order");
    let screen = terminal.wait_for("traces with shop place_order");
    click(&mut terminal, &screen, "4 Services");
    terminal.wait_for("TIME IN CALLS");
    // The wheel scrolls.
    terminal.press("2G");
    let screen = terminal.settled("ROOT SPAN");
    for _ in 0..40 {
        terminal.press("\x1b[<64;5;5M");
    }
    terminal.wait_until("earlier traces", |now| now != screen);
}

#[test]
fn a_replay_ends_with_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop(folder.path());
    let file = file.to_str().unwrap();
    let (at_once, mut replayed) = (top(&[file], 140, 30), top(&[file, "--speed", "4x"], 140, 30));
    // It is shown while it goes on, by the clock of the recording: some 5 s for 20.
    replayed.wait_until("some of the spans", |screen| {
        screen.contains("reading") && screen.contains("last minute") && screen.contains("SELECT orders")
    });
    replayed.press("w");
    for terminal in [&at_once, &replayed] {
        has_read(terminal);
        thread::sleep(Duration::from_secs(1));
    }
    let screens = [&at_once, &replayed].map(|terminal| terminal.settled("since the start"));
    assert_eq!(screens[0], screens[1]);
}

/// The rows of the table without the rates, which depend on when one looks: service and name, and then all figures.
fn rows_without_rates(screen: &str) -> Vec<String> {
    let lines: Vec<Vec<char>> = screen.lines().map(|line| line.chars().collect()).collect();
    let heading: String = lines[2].iter().collect();
    let column = |title: &str| heading.split(title).next().unwrap().chars().count();
    let (rate, errors, time) = (column("RATE/s"), column("ERR %") - 2, column("TIME "));
    let rows = lines[3..].iter().take_while(|line| line.len() > time);
    let row = |line: &Vec<char>| line[..rate].iter().chain(&line[errors..time]).collect();
    rows.map(row).collect()
}

/// The example `shop` answers requests on several connections while it is recorded and looked at.
#[test]
fn a_service_that_is_replayed_has_the_table_that_it_had_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("shop.spans");
    let recorder = Spantap::record(&capture, &[]);
    let mut shop = Command::new(program("shop"));
    shop.arg("0").env("TRACING_USDT_SOCKET", recorder.socket()).env("TRACING_USDT_FORMAT", "otlp-protobuf");
    let mut shop = Process(shop.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(shop.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.parse().unwrap();
    let file = capture.to_str().unwrap();
    wait_until("the recording has begun", || capture.exists());
    let mut live = top(&[file, "--follow"], 140, 30);
    live.wait_for("No span has ended yet");

    thread::scope(|scope| {
        for client in 0..4_u32 {
            scope.spawn(move || {
                for request in 0..100 {
                    // Some are not there.
                    let product = if (client + request) % 20 == 0 { 999_999 } else { request % 9 + 1 };
                    let answer = get(address, &format!("/products/{product}")).unwrap();
                    let status = if product == 999_999 { "404" } else { "200" };
                    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
                }
            });
        }
    });
    kill(Pid::from_raw(shop.id() as i32), Signal::SIGTERM).unwrap();
    assert!(shop.wait().unwrap().success());
    assert!(recorder.terminate().status.success());

    let mut graph = Command::new(program("spantap"));
    let graph = graph.args(["graph", "--json", "--by", "span", file]).output().unwrap();
    let graph: Value = serde_json::from_slice(&graph.stdout).unwrap();
    let name = |edge: &Value| graph["nodes"][edge["to"].as_u64().unwrap() as usize]["name"].clone();
    let mut edges = graph["edges"].as_array().unwrap().iter();
    let requests = edges.find(|edge| name(edge) == "GET /products/{id}").unwrap();
    assert_eq!(requests["calls"], 400);
    let all = graph["spans"].as_u64().unwrap();
    assert!((1_000..1_000_000).contains(&all), "{all}");
    let counted = format!(" {},{:03} spans", all / 1000, all % 1000);
    let (at_once, mut replayed) = (top(&[file], 140, 30), top(&[file, "--speed", "4x"], 140, 30));
    let has_all = |screen: &str| screen.contains(&counted) && !screen.contains("reading");
    live.wait_until("all spans live", has_all);
    // Since the start, as a file that was read at once is shown.
    live.press("w");
    replayed.press("w");
    for terminal in [&live, &at_once, &replayed] {
        terminal.wait_until("all spans", has_all);
    }
    // The last figures are copied to the screen within half a second, and a trace is waited for a little longer.
    let mut tables = [const { Vec::new() }; 3];
    let is_same = || {
        tables = [&live, &at_once, &replayed].map(|of| rows_without_rates(&of.settled("since the start")));
        tables[0] == tables[1] && tables[1] == tables[2]
    };
    let same = catch_unwind(AssertUnwindSafe(|| wait_until("the same tables", is_same)));
    assert!(same.is_ok(), "{tables:#?}");
    assert!(tables[0].iter().any(|row| row.contains("GET /products/{id}")), "{tables:#?}");
}

/// A trace each second for a day, with a new name each half minute and a new service each hour: more names than there is room for.
#[test]
#[ignore = "deep: reads a file of 100 MB"]
fn a_day_takes_the_memory_that_the_manual_says() {
    const DAY_S: u64 = 86_400;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.jsonl");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    for second in 0..DAY_S {
        let at = second * 1000 * MS;
        let (root, child) = ((at, at + (second % 90 + 10) * MS), (at + MS, at + 9 * MS));
        let failed = json!({ "status": { "code": if second % 97 == 0 { 2 } else { 0 } } });
        let spans = [
            span(second + 1, 2, 1, &format!("half minute {}", second / 30), child, json!({})),
            span(second + 1, 1, 0, "all day", root, failed),
        ];
        writeln!(file, "{}", request(&format!("hour {}", second / 3600), "day", &spans)).unwrap();
    }
    file.flush().unwrap();
    let mut terminal = top(&[path.to_str().unwrap()], 140, 40);
    let spans = |screen: &str| {
        let (before, _) = screen.split_once(" spans  ")?;
        before.rsplit(' ').next()?.replace(',', "").parse::<u64>().ok()
    };
    terminal.wait_until("half of the spans", |screen| spans(screen).is_some_and(|spans| spans > DAY_S));
    let at_noon = peak_bytes(terminal.pid());
    let screen = terminal
        .wait_until("all spans", |screen| screen.contains(" 172,800 spans") && !screen.contains("reading"));
    assert!(screen.contains("since the start"), "{screen}");
    // New names have taken the places of those that had no span for a minute.
    terminal.press("/name == \"half minute 2879\"\r");
    let screen = terminal.wait_for("hour 23         half minute 2879");
    assert!(screen.contains("(all others)"), "{screen}");
    terminal.press("4");
    terminal.wait_for("TIME IN CALLS");
    let peak = peak_bytes(terminal.pid());
    assert!(peak < 400 << 20, "{} MiB", peak >> 20);
    // There was no room for more names after 8 of the 24 hours.
    let grown = peak - at_noon;
    assert!(grown < 10 << 20, "{} MiB more than at noon", grown >> 20);
    terminal.press("q");
    assert!(terminal.wait().0.success());
}

/// The most memory that a process had at once.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_file_is_shown_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("growing.jsonl");
    write(&file, "").unwrap();
    let mut terminal = top(&[file.to_str().unwrap(), "--follow"], 100, 24);
    terminal.wait_for("No span has ended yet");
    let whole = std::fs::read(shop(folder.path())).unwrap();
    let (begin, end) = whole.split_at(whole.len() / 2);
    let add = |bytes: &[u8]| {
        File::options().append(true).open(&file).unwrap().write_all(bytes).unwrap();
    };
    add(begin);
    terminal.wait_for("SELECT orders");
    add(end);
    terminal.wait_until("all spans", |screen| screen.contains(" 600 spans"));
    terminal.press("q");
    assert!(terminal.wait().0.success());
}

#[test]
fn a_query_chooses_spans_and_says_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop(folder.path());
    let mut terminal = top(&[file.to_str().unwrap()], 100, 30);
    has_read(&terminal);
    terminal.press("/duration > 1\r");
    let screen = terminal.wait_for("needs a unit");
    assert!(screen.contains("column 12"), "{screen}");
    terminal.press("00ms\r");
    // 10 of each, as the file is read again for it.
    let screen = terminal.wait_until("only slow spans", |screen| {
        let db = screen.lines().find(|line| line.contains("SELECT orders")).unwrap_or_default();
        db.contains(" 0.5 ") && db.contains(" 3.00 s ")
    });
    assert!(screen.contains("/duration > 100ms"), "{screen}");
    terminal.press("2");
    terminal.wait_until("10 traces", |screen| screen.matches("POST /orders").count() == 10);
    terminal.press("1/");
    // The old query is there to be changed: by another that asks for names only.
    terminal.press("\x15service == \"web\"\r");
    let screen = terminal.wait_until("one row", |screen| !screen.contains("SELECT orders"));
    assert!(screen.contains("POST /orders"), "{screen}");
    terminal.press("\x1b");
    terminal.wait_for("SELECT orders");
    terminal.press("/service == \"nobody\"\r");
    terminal.wait_for("No span that the filter chooses");
}

#[test]
fn texts_of_senders_cannot_change_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "\x1b[2J\x1b]0;owned\x07\u{202e}txt\u{200b}\nnext";
    let wide = "日本語の長い名前のスパン";
    let more = json!({ "attributes": [attribute("key\x1b[31m", "value\x1b[0m\r\x08")], "status": { "code": 2, "message": evil } });
    let spans = [
        span(1, 1, 0, evil, (0, MS), more),
        span(2, 1, 0, wide, (0, 2 * MS), json!({})),
        span(3, 1, 0, "עברית ואנגלית", (0, 3 * MS), json!({})),
        span(4, 1, 0, "", (0, 4 * MS), json!({})),
    ];
    let file = folder.path().join("evil.jsonl");
    write(&file, request(&format!("{evil}-service"), "", &spans) + "\n").unwrap();
    let mut terminal = top(&[file.to_str().unwrap()], 80, 24);
    let screen = terminal.wait_for(wide.get(.."日本語の".len()).unwrap());
    assert!(screen.contains(r"\x1b[2J") && screen.contains("(no name)"), "{screen}");
    terminal.press("G\r");
    terminal.wait_for("DURATION");
    terminal.press("\r");
    let screen = terminal.wait_for("on the critical path");
    assert!(screen.contains(r"\x1b"), "{screen}");
    terminal.press("q");
    let bytes = terminal.bytes();
    terminal.wait();
    let has = |what: &[u8]| bytes.windows(what.len()).any(|bytes| bytes == what);
    assert!(!has(b"\x1b]0;owned") && !has("\u{202e}".as_bytes()) && !has("\u{200b}".as_bytes()));
}

#[test]
fn a_small_screen_says_so_and_a_storm_of_sizes_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop(folder.path());
    let mut terminal = top(&[file.to_str().unwrap()], 20, 5);
    terminal.wait_for("too small");
    for page in ["1", "2", "\r", "?", "\x1b\x1b4", "5", "/", "\x1b"] {
        terminal.press(page);
        for (columns, rows) in [(1, 1), (300, 100), (40, 8), (41, 9), (2, 60), (200, 3), (80, 24)] {
            terminal.resize(columns, rows);
            thread::sleep(Duration::from_millis(3));
        }
    }
    // Escape and a key at once would be one key with Alt.
    terminal.wait_for("q  quit");
    terminal.press("1");
    has_read(&terminal);
    let screen = terminal.wait_for("SELECT orders");
    assert!(screen.contains("q  quit"), "{screen}");
    terminal.press("q");
    assert!(terminal.wait().0.success());
}

#[test]
fn without_colours_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop(folder.path());
    let file = file.to_str().unwrap();
    let mut plain = Command::new("env");
    plain.arg("NO_COLOR=1").arg(program("spantap")).args(["top", file]);
    let (plain, coloured) = (Terminal::start(plain, 100, 30), top(&[file], 100, 30));
    let screens = [&plain, &coloured].map(|terminal| {
        has_read(terminal);
        thread::sleep(Duration::from_secs(1));
        terminal.text()
    });
    assert_eq!(screens[0], screens[1]);
    // Colours of text: 30 to 37, and 38 for others.
    let has_colours = |terminal: &Terminal| {
        let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        bytes.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m')).any(|(codes, _)| {
            codes.split(';').any(|code| code.len() == 2 && code.starts_with('3') && code != "39")
        })
    };
    assert!(!has_colours(&plain) && has_colours(&coloured));
}

/// Sends a span of 7 ms ten times a second, and prints a line for each, until SIGTERM.
const SENDS_SPANS: &str = r#"
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for n in range(1, 1200):
    span = b'[{"traceId":"%032x","id":"b7ad6b7169203331","name":"work","timestamp":%d,"duration":7000,"localEndpoint":{"serviceName":"py"}}]'
    to.sendto(span % (n, time.time_ns() // 1000), os.environ["TRACING_USDT_SOCKET"])
    print("sent", n, flush=True)
    print("to stderr", n, file=sys.stderr, flush=True)
    time.sleep(0.1)
"#;

#[test]
fn a_program_is_shown_while_it_runs_and_ends_with_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let output = output.to_str().unwrap();
    let mut terminal = top(&["--output", output, "--", "python3", "-c", SENDS_SPANS], 100, 30);
    let is_right = |screen: &str| {
        let row = screen.lines().find(|line| line.contains(" work ")).unwrap_or_default();
        row.starts_with("py ") && row.matches("7.00 ms").count() >= 4
    };
    terminal.wait_until("the span", is_right);
    // What is paused stays, although spans arrive.
    terminal.press(" ");
    let spans = |screen: &str| -> u64 {
        let words: Vec<&str> = screen.lines().next().unwrap().split_whitespace().collect();
        let place = words.iter().position(|word| *word == "spans").unwrap();
        words[place - 1].parse().unwrap()
    };
    let paused = spans(&terminal.wait_for("PAUSED"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(spans(&terminal.text()), paused);
    terminal.press(" ");
    terminal.wait_until("more spans", |screen| spans(screen) >= paused + 8);
    terminal.press("2");
    terminal.wait_for("ROOT SPAN");
    terminal.press("\r");
    terminal.wait_for("on the critical path");
    terminal.press("q");
    let (status, screen) = terminal.wait();
    assert_eq!(status.code(), Some(42), "the program's own code, after SIGTERM: {screen}");
    assert!(screen.contains("spans in") && !screen.contains("sent"), "{screen}");
    let printed = std::fs::read_to_string(output).unwrap();
    assert!(printed.contains("sent 1\n") && printed.contains("to stderr 1\n"), "{printed}");
}

#[test]
fn what_is_open_is_shown_and_stays_when_its_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("trace.sock");
    let mut terminal = top(&[socket.to_str().unwrap()], 140, 24);
    terminal.wait_for("No span has ended yet");
    let mut command = Command::new(Build::Debug.path(Linkage::Executable, 0));
    command.env("TRACING_USDT_DELIVERY", "background").env("TRACING_USDT_FORMAT", "otlp-protobuf");
    let mut fixture = Fixture::spawn(command.env("TRACING_USDT_OPEN_SPANS", "200ms"), Some(&socket));
    terminal.press("3");
    terminal.wait_for("No program reports a span");
    fixture.run("hold 2");
    let screen = terminal.wait_until("both spans", |screen| screen.matches(" held ").count() == 2);
    assert!(
        screen.contains("3 Open (2)") && screen.contains("fixture") && screen.contains("n=1"),
        "{screen}"
    );
    // The age grows although the program says nothing new.
    let before = terminal.text();
    terminal.wait_until("an older span", |screen| screen != before);
    let pid = fixture.pid();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    drop(fixture);
    let screen = terminal.wait_for("OPEN WHEN THE PROCESS ENDED");
    assert!(screen.contains(&format!("fixture (pid {pid}")) && screen.contains("held {n=1}"), "{screen}");
    terminal.press("q");
    // It is said again where it stays.
    let (_, screen) = terminal.wait();
    assert!(screen.contains("2 spans were open by its last report"), "{screen}");
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("trace.sock");
        let terminal = top(&[socket.to_str().unwrap()], 80, 24);
        terminal.wait_for("No span has ended yet");
        assert!(terminal.is_alternate());
        // A datagram that is no span is said on the page of losses, and again at the end.
        send_bytes(&socket, b"rubbish");
        wait_until("the fault is shown", || terminal.text().contains("Losses!"));
        terminal.signal(signal);
        let (_, screen) = terminal.wait();
        assert!(!screen.contains("1 Spans") && screen.contains("refused"), "{signal} {screen}");
    }
    // The window is closed: the program neither stays nor spins.
    let folder = tempfile::tempdir().unwrap();
    let (socket, file) = (folder.path().join("trace.sock"), shop(folder.path()));
    let ignoring = format!("trap '' HUP; exec {} top {}", program("spantap").display(), socket.display());
    let mut ignores_hangup = Command::new("sh");
    ignores_hangup.args(["-c", &ignoring]);
    let ignores_hangup = Terminal::start(ignores_hangup, 80, 24);
    for terminal in [top(&[file.to_str().unwrap()], 80, 24), ignores_hangup] {
        terminal.wait_for("1 Spans");
        assert!(terminal.close(), "it still runs");
    }
    // Without a terminal, there is nothing to show.
    let piped = Command::new(program("spantap")).args(["top", "trace.sock"]).output().unwrap();
    let stderr = String::from_utf8(piped.stderr).unwrap();
    assert!(piped.status.code() == Some(1) && stderr.contains("needs a terminal"), "{stderr}");
}

#[test]
fn a_name_of_a_file_that_does_not_exist_is_no_socket() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capture.spans");
    let terminal = top(&[file.to_str().unwrap()], 100, 24);
    let (status, screen) = terminal.wait();
    assert!(status.code() == Some(1) && screen.contains("No such file"), "{screen}");
    assert!(!file.exists());
}
