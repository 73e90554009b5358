//! A checkout that is slow for four reasons: it waits for a lock, computes, writes to the disk and calls
//! another service. Its log shows none of them, but the kernel knows them all.
//!
//! ```text
//! cargo build --bin checkout && target/debug/checkout        # until Ctrl-C
//! ```
//!
//! Attach to it from another terminal while it runs:
//!
//! ```text
//! sudo bpftrace -e 'usdt:target/debug/checkout:tracing:close { @us[str(arg1)] = hist(arg2 / 1000); }'
//! sudo spantap attach --exe target/debug/checkout
//! ```
//!
//! `spantap attach` prints a trace for each order. `cargo xtask picture` draws one of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing_subscriber::{fmt, prelude::*};
use tracing_usdt::tracing::{info, info_span, instrument};

static RECEIPT: [u8; 1 << 20] = [b'.'; 1 << 20];

fn main() -> anyhow::Result<()> {
    let log = fmt::layer();
    // README sends the log to a file.
    let log = if io::stdout().is_terminal() { log } else { log.with_ansi(false) };
    tracing_subscriber::registry().with(tracing_usdt::layer()).with(log).init();

    let shelves = Arc::new(Mutex::new(vec![1_000_000; 50]));
    let payments = payment_service().context("can't start the payment service")?;
    report_stock_for_ever(Arc::clone(&shelves))?;
    // Beside the executable, because the folder for temporary files is in memory on some systems.
    let executable = std::env::current_exe().context("can't find this executable")?;
    let receipts = tempfile::tempdir_in(executable.parent().context("this executable is in no folder")?)?;

    for order in 1_001.. {
        let product = order % 50;
        let span = info_span!("checkout", order, product).entered();
        reserve(&shelves, product);
        price();
        charge(payments)?;
        write_receipt(receipts.path())?;
        info!("order paid");
        drop(span);
        sleep(Duration::from_micros(fastrand::u64(200_000..600_000)));
    }
    Ok(())
}

/// Waits for the thread that holds the lock.
#[instrument(skip_all)]
fn reserve(shelves: &Mutex<Vec<u64>>, product: usize) {
    shelves.lock().unwrap_or_else(PoisonError::into_inner)[product] -= 1;
}

/// Computes.
#[instrument]
fn price() {
    work_for(Duration::from_micros(1_500));
}

/// Waits for another service.
#[instrument(skip_all, fields(otel.kind = "client", server.port = payments.port()))]
fn charge(payments: SocketAddr) -> io::Result<()> {
    let mut payments = BufReader::new(TcpStream::connect(payments)?);
    payments.get_mut().write_all(b"19.90 EUR\n")?;
    payments.read_line(&mut String::new())?;
    Ok(())
}

/// Waits for the disk.
#[instrument(skip_all, fields(bytes = RECEIPT.len()))]
fn write_receipt(folder: &Path) -> io::Result<()> {
    let path = folder.join("receipt.pdf");
    let mut receipt = File::options().create(true).write(true).truncate(false).open(path)?;
    receipt.write_all(&RECEIPT)?;
    receipt.sync_all()
}

/// Holds the lock while it reads, and so delays `reserve`.
fn report_stock_for_ever(shelves: Arc<Mutex<Vec<u64>>>) -> io::Result<()> {
    let report = move || {
        loop {
            let shelves = shelves.lock().unwrap_or_else(PoisonError::into_inner);
            sleep(Duration::from_millis(6));
            drop(shelves);
            sleep(Duration::from_millis(1));
        }
    };
    thread::Builder::new().name("stock-report".into()).spawn(report).map(drop)
}

fn payment_service() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let answer = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let _ = stream.read_line(&mut String::new());
            sleep(Duration::from_millis(2));
            let _ = stream.get_mut().write_all(b"paid\n");
        }
    };
    thread::Builder::new().name("payments".into()).spawn(answer)?;
    Ok(address)
}

/// Stands in for a computation.
fn work_for(duration: Duration) {
    let began = Instant::now();
    while began.elapsed() < duration {
        std::hint::spin_loop();
    }
}
