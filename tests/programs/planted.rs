//! `planted MODE [REQUESTS]`: a small service that answers requests from inside, several at a time, on tokio's worker threads. In each
//! mode but `healthy` it has one fault, and is the same otherwise. So what is found in a recording of it is known before.
//!
//! | mode | the fault |
//! |---|---|
//! | `healthy` | none |
//! | `slow-query` | the query of the order takes ten times as long |
//! | `n-plus-one` | a query for each item of the order, and not one for all |
//! | `lock-convoy` | work under a lock that every request takes |
//! | `disk-stall` | the audit log is written and synced in async code |
//! | `held-worker` | the answer is computed for long in async code |
//! | `serial-calls` | two services are asked one after the other, and not at the same time |
//! | `new-error` | from the middle on, the service of prices refuses |
//! | `gap` | each request waits for something that has no span |

use std::fs::{File, remove_file};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::field::Empty;
use tracing::{Span, instrument};
use tracing_subscriber::prelude::*;

/// The requests that are answered at the same time.
const AT_ONCE: usize = 8;
const ITEMS: u64 = 20;
const MODES: [&str; 9] = [
    "healthy",
    "slow-query",
    "n-plus-one",
    "lock-convoy",
    "disk-stall",
    "held-worker",
    "serial-calls",
    "new-error",
    "gap",
];

struct Service {
    mode: String,
    requests: u64,
    totals: Mutex<u64>,
    /// Where the audit log is.
    folder: PathBuf,
}

impl Service {
    fn has(&self, fault: &str) -> bool {
        self.mode == fault
    }

    #[instrument(name = "request", skip(self), fields(
        otel.kind = "server", otel.name = "GET /orders/{id}", http.request.method = "GET", http.route = "/orders/{id}"
    ))]
    async fn answer(&self, order: u64) {
        self.check_token().await;
        let customer = self.load_order(order).await;
        if self.has("gap") {
            sleep(Duration::from_millis(25)).await;
        }
        if self.has("n-plus-one") {
            for item in 0..ITEMS {
                self.load_item(item).await;
            }
        } else {
            self.load_items(customer).await;
        }
        let basket = other_id(customer);
        if self.has("serial-calls") {
            self.fetch_prices(order, basket).await;
            self.fetch_stock(basket).await;
        } else {
            tokio::join!(self.fetch_prices(order, basket), self.fetch_stock(basket));
        }
        self.add_to_totals();
        self.write_audit(order);
        self.render(customer);
    }

    #[instrument(skip_all, fields(otel.kind = "client", http.request.method = "POST", server.address = "auth.example"))]
    async fn check_token(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    /// The order's customer, whom the request does not name.
    #[instrument(skip(self), fields(
        otel.kind = "client", db.system.name = "planted", db.query.text = "SELECT * FROM orders WHERE id = ?"
    ))]
    async fn load_order(&self, order: u64) -> u64 {
        sleep(Duration::from_millis(if self.has("slow-query") { 30 } else { 3 })).await;
        other_id(order)
    }

    #[instrument(skip(self), fields(
        otel.kind = "client", db.system.name = "planted", db.query.text = "SELECT * FROM items WHERE customer = ?"
    ))]
    async fn load_items(&self, customer: u64) {
        sleep(Duration::from_millis(3)).await;
    }

    #[instrument(skip(self), fields(
        otel.kind = "client", db.system.name = "planted", db.query.text = "SELECT * FROM items WHERE id = ?"
    ))]
    async fn load_item(&self, item: u64) {
        sleep(Duration::from_millis(2)).await;
    }

    #[instrument(skip(self, order), fields(
        otel.kind = "client", otel.status_code = Empty, otel.status_description = Empty,
        http.request.method = "GET", server.address = "prices.example"
    ))]
    async fn fetch_prices(&self, order: u64, basket: u64) {
        sleep(Duration::from_millis(6)).await;
        if self.has("new-error") && order >= self.requests / 2 && order % 3 == 0 {
            let span = Span::current();
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", format!("no price for basket {basket}"));
        }
    }

    #[instrument(skip(self), fields(
        otel.kind = "client", http.request.method = "GET", server.address = "stock.example"
    ))]
    async fn fetch_stock(&self, basket: u64) {
        sleep(Duration::from_millis(5)).await;
    }

    #[instrument(skip_all)]
    fn add_to_totals(&self) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has("lock-convoy") {
            compute(Duration::from_millis(4));
        }
        *totals += 1;
    }

    #[instrument(skip(self))]
    fn write_audit(&self, order: u64) {
        if !self.has("disk-stall") {
            return;
        }
        let path = self.folder.join(format!("audit-{}-{order}", std::process::id()));
        let written = File::create(&path).and_then(|mut file| {
            // However fast the disk is.
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(40) {
                file.write_all(&[0; 64 << 10])?;
                file.sync_data()?;
            }
            Ok(())
        });
        if let Err(error) = written.and(remove_file(&path)) {
            eprintln!("can't write {}: {error}", path.display());
        }
    }

    #[instrument(skip(self))]
    fn render(&self, customer: u64) {
        compute(if self.has("held-worker") { Duration::from_millis(60) } else { Duration::from_micros(100) });
    }
}

/// An id that only one who has looked it up knows.
fn other_id(id: u64) -> u64 {
    (id + 1).wrapping_mul(2_654_435_761) % 1_000_003
}

/// Computes for so long, by the clock of the thread: on a busy machine it takes longer, but is as much work.
fn compute(time: Duration) {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or(Duration::MAX);
    let end = now().saturating_add(time);
    while now() < end {
        std::hint::spin_loop();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    if !MODES.contains(&&*mode) {
        return Err(format!("there is no mode {mode:?}; the modes are {}", MODES.join(", ")).into());
    }
    let requests = arguments.next().map_or(Ok(200), |number| number.parse())?;
    tracing_subscriber::registry().with(tracing_usdt::layer()).init();
    // A test that attaches says when that has happened. Without a line, as from /dev/null, it begins at once.
    writeln!(std::io::stdout(), "ready")?;
    std::io::stdin().read_line(&mut String::new())?;
    let folder = std::env::var_os("PLANTED_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let service = Arc::new(Service { mode, requests, totals: Mutex::new(0), folder });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build()?;
    runtime.block_on(async move {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = Vec::new();
        for order in 0..requests {
            let permit = Arc::clone(&permits).acquire_owned().await?;
            let service = Arc::clone(&service);
            tasks.push(tokio::spawn(async move {
                service.answer(order).await;
                drop(permit);
            }));
        }
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}
