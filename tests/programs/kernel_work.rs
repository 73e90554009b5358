//! A program that makes the kernel work inside its spans. Each line of its input is a command. For each, it
//! prints a line of JSON with the times by its own clock.
#![allow(clippy::print_stdout)] // its answers

use std::alloc::Layout;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Barrier, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
};
use nix::unistd::Pid;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan};
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    match std::env::args_os().nth(1).as_deref().and_then(OsStr::to_str) {
        Some("threads") => end_by_threads(),
        // Executed by a thread that is not the first.
        Some("become") => {
            let sleep = || Command::new("sleep").arg("0.5").exec();
            return Err(thread::spawn(sleep).join().map_err(|_| "the thread panicked")?.into());
        }
        _ => {}
    }
    let layer = tracing_usdt::layer();
    let handle = layer.handle();
    tracing_subscriber::registry().with(layer).init();
    println!("ready");
    // For spans that are open before spantap attaches.
    let mut early = None;
    let mut long = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words.get(n).and_then(|word| word.parse::<u64>().ok()).unwrap_or(1);
        let measured = match words[0] {
            "sleep" => sleep(number(1), Duration::from_millis(number(2))),
            "sleep_and_spin" => sleep_and_spin(number(1), [number(2), number(3)].map(Duration::from_millis)),
            "sleep_below" => sleep_below(Duration::from_millis(number(1))),
            "doze" => doze(number(1), Duration::from_millis(number(2))),
            "spin" => spin(Duration::from_millis(number(1))),
            "contend" => contend(Duration::from_millis(number(1)))?,
            "write" => write(words[1], number(2))?,
            "direct" => direct(words[1], number(2) as usize)?,
            "talk" => talk(number(1) as usize)?,
            "half" => half(number(1) as usize)?,
            "queued" => queued(number(1) as usize, false)?,
            "shut" => queued(number(1) as usize, true)?,
            "polls" => polls()?,
            "refused" => refused()?,
            "lost" => lost(words[1].parse()?),
            "crowded" => crowded()?,
            "name" => name(words[1])?,
            "exec" => exec(&words[1..])?,
            // In a span that is never exited.
            "become" => {
                let _entered = info_span!("the one before").entered();
                return Err(Command::new(words[1]).args(&words[2..]).exec().into());
            }
            "become_by_thread" => {
                let exec = || Command::new(words[1]).exec();
                return thread::scope(|scope| match scope.spawn(exec).join() {
                    Ok(error) => Err(error.into()),
                    Err(_) => Err("the thread panicked".into()),
                });
            }
            "calls" => calls(number(1)),
            "nest" => nest(),
            "hop" => hop(number(1), number(2))?,
            "enter" => {
                early = Some(info_span!("early", field = 7).entered());
                json!({})
            }
            "leave" => {
                thread::sleep(Duration::from_millis(20));
                drop(early.take());
                json!({})
            }
            "open" => {
                (0..number(1)).for_each(|n| long.push(Long::open(n)));
                json!({})
            }
            "below" => below(&long, number(1)),
            "close" => {
                drop(long.drain(..number(1) as usize));
                json!({})
            }
            "busy" => {
                thread::spawn(keep_busy);
                json!({})
            }
            "pause" => {
                thread::sleep(Duration::from_millis(number(1)));
                json!({})
            }
            "many" => many(number(1), number(2)),
            "lost_batches" => json!({ "spans": handle.batch_stats().dropped.queue_full }),
            "emit" => emit(number(1) as usize),
            "deep" => deep(number(1)),
            "hand_over" => hand_over()?,
            "await_all" => await_all()?,
            "share" => share(),
            "register" => register(number(1)),
            "abandon" => abandon(),
            "outlive" => outlive(Duration::from_millis(number(1))),
            unknown => return Err(format!("unknown command {unknown}").into()),
        };
        println!("{measured}");
    }
    Ok(())
}

/// Ends the first thread before the others. After 500 ms, one of these ends the process with code 3.
#[allow(unsafe_code)]
fn end_by_threads() {
    for _ in 0..31 {
        thread::spawn(|| thread::sleep(Duration::from_secs(10)));
    }
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(500));
        std::process::exit(3)
    });
    // SAFETY: it ends only the calling thread, and other threads use nothing on its stack.
    unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
}

/// Ends the first thread. After `time`, another thread closes a span and ends the process.
#[allow(unsafe_code)]
fn outlive(time: Duration) -> Value {
    thread::spawn(move || {
        thread::sleep(time);
        drop(info_span!("last words"));
        std::process::exit(0)
    });
    println!("{{}}");
    // SAFETY: as above.
    unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
    json!({})
}

/// The wall time of `work`, and the part of it in which the thread waited for a CPU, by the kernel's count.
/// (The kernel's count of the time on a CPU would leave out what a hypervisor took.)
fn timed(work: impl FnOnce()) -> Value {
    let (wall, waited) = measured(work);
    json!({ "wall_ns": wall, "waited_ns": waited })
}

/// Wall time and waiting time of `work`, in nanoseconds.
fn measured(work: impl FnOnce()) -> (u64, u64) {
    let waited = || {
        // The file has three numbers: time on a CPU, time waiting for one, and how often it got one.
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ').nth(1).and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
    };
    // The waiting time is read inside the wall time, so that it can't be the longer one.
    let start = Instant::now();
    let before = waited();
    work();
    let waited = waited() - before;
    (start.elapsed().as_nanos() as u64, waited)
}

fn sleep(times: u64, each: Duration) -> Value {
    info_span!("sleeper").in_scope(|| timed(|| (0..times).for_each(|_| thread::sleep(each))))
}

/// Leaves the CPU to nobody after it has left the span.
fn sleep_and_spin(times: u64, [each, spin]: [Duration; 2]) -> Value {
    let measured = sleep(times, each);
    burn(spin);
    measured
}

/// Sleeps three times in a span, and then three times in one below it.
fn sleep_below(each: Duration) -> Value {
    info_span!("sleeper").in_scope(|| {
        (0..3).for_each(|_| thread::sleep(each));
        info_span!("inner").in_scope(|| timed(|| (0..3).for_each(|_| thread::sleep(each))))
    })
}

fn burn(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Alternately spins and sleeps. `asleep_ns` is an upper bound for its sleep: the time of its sleeps without
/// the waits for a CPU.
fn doze(times: u64, each: Duration) -> Value {
    let mut asleep = 0;
    let doze = |_| {
        burn(each);
        let (wall, waited) = measured(|| thread::sleep(each));
        asleep += wall - waited;
    };
    let mut measured = info_span!("dozer").in_scope(|| timed(|| (0..times).for_each(doze)));
    measured["asleep_ns"] = asleep.into();
    measured
}

fn spin(time: Duration) -> Value {
    info_span!("spinner").in_scope(|| timed(|| burn(time)))
}

/// Two threads spin on the same CPU.
fn contend(time: Duration) -> Result<Value> {
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    let barrier = Barrier::new(2);
    let work = |name: &'static str| {
        // A thread that can't be bound to the CPU is still measured.
        let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
        barrier.wait();
        match name {
            "contender" => info_span!("contender").in_scope(|| timed(|| burn(time))),
            _ => timed(|| burn(time)),
        }
    };
    Ok(thread::scope(|scope| {
        let other = scope.spawn(|| work("other"));
        let measured = scope.spawn(|| work("contender")).join().unwrap_or_default();
        let _ = other.join();
        measured
    }))
}

/// Two threads are in the same span. One waits for the other.
fn share() -> Value {
    let (shared, ready, done) = (info_span!("shared"), Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            ready.wait();
            shared.in_scope(|| done.wait());
        });
        scope.spawn(|| {
            ready.wait();
            shared.in_scope(|| {
                thread::sleep(Duration::from_millis(50));
                done.wait();
            });
        });
    });
    json!({})
}

/// A thread waits in the span `waits`, in one of the usual ways, until another one that is in no span ends the wait. What is
/// no wait for a socket says so.
fn await_all() -> Result<Value> {
    fn pair(way: &str, wait: impl FnOnce() + Send, end: impl FnOnce()) {
        let ready = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                ready.wait();
                info_span!("waits", way).in_scope(wait);
            });
            ready.wait();
            thread::sleep(Duration::from_millis(40));
            end();
        });
    }
    let written = |mut stream: &TcpStream| _ = stream.write_all(b"x");

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut client = None;
    pair("TCP accept", || _ = listener.accept(), || client = TcpStream::connect(address).ok());
    let client = TcpStream::connect(address)?;
    let (mut server, _) = listener.accept()?;
    pair("TCP read", || _ = server.read(&mut [0]), || written(&client));
    pair("poll of a socket", || wait_by_poll(&server), || written(&client));

    let (receiver, sender) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let to = receiver.local_addr()?;
    pair("UDP receive", || _ = receiver.recv(&mut [0]), || _ = sender.send_to(b"x", to));

    let (mut near, mut far) = UnixStream::pair()?;
    pair("Unix read", || _ = near.read(&mut [0]), || _ = far.write_all(b"x"));
    // More than fits.
    let large = vec![b'x'; 8 << 20];
    let read_all = || _ = far.read_exact(&mut vec![0; large.len()]);
    pair("Unix write", || _ = near.write_all(&large), read_all);

    let (reads, writes) = nix::unistd::pipe()?;
    let (mut reader, reads, mut writes) = (File::from(reads.try_clone()?), reads, File::from(writes));
    pair("no socket: pipe", || _ = reader.read(&mut [0]), || _ = writes.write_all(b"x"));
    pair("no socket: poll of a pipe", || wait_by_poll(&reads), || _ = writes.write_all(b"x"));
    pair("no socket: timer", || thread::sleep(Duration::from_millis(40)), || {});
    let (finish, finished) = channel::<()>();
    let other = thread::spawn(move || _ = finished.recv());
    pair("no socket: join", || _ = other.join(), || drop(finish));
    Ok(json!({}))
}

/// Waits until it can be read.
fn wait_by_poll(file: impl AsFd) {
    let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
}

/// Threads wait in the span `waits`, each until another one in the span `wakes` ends the wait, in one of the usual ways.
fn hand_over() -> Result<Value> {
    // `wake` calls its argument when the other thread may wait.
    fn pair(way: &str, wait: impl FnOnce() + Send, wake: impl FnOnce(&dyn Fn()) + Send) {
        let ready = Barrier::new(2);
        let let_wait = || {
            ready.wait();
            thread::sleep(Duration::from_millis(20));
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                ready.wait();
                info_span!("waits", way).in_scope(wait);
            });
            scope.spawn(|| {
                info_span!("wakes", way).in_scope(|| {
                    wake(&let_wait);
                    thread::sleep(Duration::from_millis(5));
                });
            });
        });
    }
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    let held = Mutex::new(());
    let unlock = |let_wait: &dyn Fn()| {
        let guard = lock(&held);
        let_wait();
        drop(guard);
    };
    pair("mutex", || drop(lock(&held)), unlock);

    let (sender, receiver) = channel();
    let send = move |let_wait: &dyn Fn()| {
        let_wait();
        let _ = sender.send(());
    };
    pair("channel", move || _ = receiver.recv(), send);

    let (is_done, changed) = (Mutex::new(false), Condvar::new());
    let wait = || {
        let mut is_done = lock(&is_done);
        while !*is_done {
            is_done = changed.wait(is_done).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let notify = |let_wait: &dyn Fn()| {
        let_wait();
        *lock(&is_done) = true;
        changed.notify_one();
    };
    pair("condition variable", wait, notify);

    let (reads, writes) = nix::unistd::pipe()?;
    let (mut reads, mut writes) = (File::from(reads), File::from(writes));
    let read = move || _ = reads.read_exact(&mut [0]);
    let write = move |let_wait: &dyn Fn()| {
        let_wait();
        let _ = writes.write_all(b"x");
    };
    pair("pipe", read, write);

    let waiter = OnceLock::new();
    let park = || {
        let _ = waiter.set(thread::current());
        thread::park();
    };
    let unpark = |let_wait: &dyn Fn()| {
        let_wait();
        if let Some(waiter) = waiter.get() {
            waiter.unpark();
        }
    };
    pair("park", park, unpark);

    let word = AtomicU32::new(0);
    let wait = || {
        while word.load(Ordering::Acquire) == 0 {
            futex(&word, nix::libc::FUTEX_WAIT, 0);
        }
    };
    let wake = |let_wait: &dyn Fn()| {
        let_wait();
        word.store(1, Ordering::Release);
        futex(&word, nix::libc::FUTEX_WAKE, 1);
    };
    pair("futex", wait, wake);

    // A task that waits is in no span. A thread that waits for a task may be.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let notified = Notify::new();
    let notify = |let_wait: &dyn Fn()| {
        let_wait();
        notified.notify_one();
    };
    pair("tokio", || runtime.block_on(notified.notified()), notify);
    Ok(json!({}))
}

#[allow(unsafe_code)]
fn futex(word: &AtomicU32, operation: i32, value: u32) {
    let timeout = std::ptr::null::<nix::libc::timespec>();
    // SAFETY: the word outlives the call, and both operations only read it.
    unsafe { nix::libc::syscall(nix::libc::SYS_futex, word.as_ptr(), operation, value, timeout) };
}

/// Writes `times` pieces of 64 KiB, and syncs each to the disk before the next.
fn write(path: &str, times: u64) -> Result<Value> {
    let piece = vec![b'x'; 64 << 10];
    let mut file = File::create(path)?;
    let mut failed = None;
    let measured = info_span!("writer").in_scope(|| {
        timed(|| {
            for _ in 0..times {
                failed = failed.take().or(file.write_all(&piece).and_then(|()| file.sync_data()).err());
            }
        })
    });
    failed.map_or(Ok(measured), |error| Err(error.into()))
}

/// Writes `mebibytes` MiB in one call, past the page cache.
fn direct(path: &str, mebibytes: usize) -> Result<Value> {
    let flags = OFlag::O_DIRECT.bits();
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
    let layout = Layout::from_size_align(mebibytes << 20, 4096)?;
    let mut piece: Vec<u8> = vec![b'x'; layout.size() + layout.align()];
    let start = piece.as_ptr().align_offset(layout.align());
    let piece = &mut piece[start..start + layout.size()];
    let mut result = Ok(0);
    // Allocates the file's blocks first, so that only the write is measured.
    file.write_all_at(piece, 0)?;
    file.sync_all()?;
    let mut measured = info_span!("direct").in_scope(|| timed(|| result = file.write_at(piece, 0)));
    measured["bytes"] = result?.into();
    Ok(measured)
}

/// A client and a server, each in a span of its own.
fn talk(bytes: usize) -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<()> {
        info_span!("server").in_scope(|| {
            let (mut stream, _) = listener.accept()?;
            let mut request = vec![0; bytes];
            stream.read_exact(&mut request)?;
            stream.write_all(b"answer")?;
            // Reads to the end, so that the client closes first.
            stream.read_to_end(&mut Vec::new()).map(drop)
        })
    });
    info_span!("client").in_scope(|| -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&vec![b'x'; bytes])?;
        stream.read_exact(&mut [0; 6])
    })?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(json!({ "port": address.port() }))
}

/// A client that shuts down its side before it receives the answer, and a server whose span begins long after
/// it accepted the connection.
fn half(bytes: usize) -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        thread::sleep(Duration::from_millis(100));
        info_span!("late").in_scope(|| {
            stream.set_nonblocking(true)?;
            // There may be nothing to read yet.
            let _ = stream.read(&mut [0; 16]);
            stream.set_nonblocking(false)?;
            stream.read_to_end(&mut Vec::new())?;
            thread::sleep(Duration::from_millis(50));
            stream.write_all(&vec![b'x'; bytes])
        })
    });
    info_span!("half").in_scope(|| -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"request")?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    })?;
    server.join().map_err(|_| "the server panicked")??;
    // The kernel finishes the connection after the close.
    thread::sleep(Duration::from_millis(50));
    Ok(json!({}))
}

/// A client that closes before everything it wrote is sent.
fn queued(bytes: usize, shuts_down_first: bool) -> Result<Value> {
    let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    // Connections inherit this small buffer, so that the client's own becomes full soon.
    setsockopt(&listener, RcvBuf, &4096)?;
    bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&listener, Backlog::new(1)?)?;
    let listener = TcpListener::from(listener);
    let mut stream = info_span!("queued").in_scope(|| TcpStream::connect(listener.local_addr()?))?;
    let (mut accepted, _) = listener.accept()?;
    info_span!("writer").in_scope(|| -> std::io::Result<()> {
        setsockopt(&stream, SndBuf, &(2 * bytes))?;
        // No one reads yet, so a write that does not fit would block for ever.
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&vec![b'x'; bytes])?;
        if shuts_down_first {
            stream.shutdown(Shutdown::Write)?;
        }
        drop(stream);
        Ok(())
    })?;
    let mut received = Vec::new();
    accepted.read_to_end(&mut received)?;
    Ok(json!({ "received": received.len() }))
}

/// A connect to a listener whose backlog is full for half a second, so that the kernel retransmits.
fn crowded() -> Result<Value> {
    let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&listener, Backlog::new(0)?)?;
    let listener = TcpListener::from(listener);
    let address = listener.local_addr()?;
    let _first = TcpStream::connect(address)?;
    let server = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        listener.accept().and_then(|first| Ok((first, listener.accept()?)))
    });
    let mut connected = Err(ErrorKind::NotConnected.into());
    let measured = info_span!("patient").in_scope(|| timed(|| connected = TcpStream::connect(address)));
    connected?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(measured)
}

/// System calls with addresses and paths. Some of these do not exist.
fn name(folder: &str) -> Result<Value> {
    let path = format!("{folder}/socket");
    info_span!("namer").in_scope(|| -> std::io::Result<()> {
        let _bound = UnixDatagram::bind(&path)?;
        let other = UnixDatagram::unbound()?;
        let _ = other.connect(format!("{path}.other"));
        let _ = std::fs::rename(format!("{folder}/one"), format!("{folder}/two"));
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.send_to(b"x", "127.0.0.1:9")?;
        // `send` is the same system call without an address.
        udp.connect("127.0.0.1:10")?;
        udp.send(b"x").map(drop)
    })?;
    Ok(json!({}))
}

/// A connection that is accepted in a span of several polls. The last poll finds something to read.
fn polls() -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let span = info_span!("polled");
    span.in_scope(|| ());
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    server.set_nonblocking(true)?;
    let mut byte = [0];
    let mut poll = || -> std::io::Result<()> {
        for _ in 0..3 {
            span.in_scope(|| server.read(&mut byte).is_ok());
            thread::sleep(Duration::from_millis(10));
        }
        client.write_all(&byte)?;
        // The byte may take a while to arrive.
        loop {
            match span.in_scope(|| server.read(&mut byte)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1))
                }
                read => return read.map(drop),
            }
        }
    };
    let mut result = Ok(());
    let measured = timed(|| result = poll());
    result?;
    Ok(measured)
}

/// Threads that end inside a span.
fn abandon() -> Value {
    let inside = || {
        let entered = info_span!("abandoned").entered();
        thread::sleep(Duration::from_millis(10));
        std::mem::forget(entered);
    };
    for _ in 0..20 {
        let _ = thread::spawn(inside).join();
    }
    json!({})
}

fn refused() -> Result<Value> {
    // The port is bound for UDP only, so a TCP connect is refused.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let result = info_span!("refused").in_scope(|| TcpStream::connect(("127.0.0.1", port)));
    Ok(json!({ "port": port, "refused": result.is_err() }))
}

/// Connects to an address that does not answer.
fn lost(address: SocketAddr) -> Value {
    let mut failed = false;
    let connect = || failed = TcpStream::connect_timeout(&address, Duration::from_millis(2500)).is_err();
    let mut measured = info_span!("lost").in_scope(|| timed(connect));
    measured["failed"] = failed.into();
    measured
}

fn exec(words: &[&str]) -> Result<Value> {
    let mut status = None;
    let mut measured = info_span!("parent")
        .in_scope(|| timed(|| status = Some(Command::new(words[0]).args(&words[1..]).status())));
    measured["code"] = status.ok_or("it was not run")??.code().into();
    Ok(measured)
}

fn calls(times: u64) -> Value {
    info_span!("caller").in_scope(|| {
        timed(|| {
            (0..times).for_each(|_| _ = std::os::unix::process::parent_id());
            let _ = File::open("/nowhere/to/be/found");
            thread::sleep(Duration::from_millis(10));
        })
    })
}

/// Sleeps in three nested spans, of which one is entered twice; and in a span that was entered inside another,
/// which is exited first. Returns the nanoseconds of each sleep.
fn nest() -> Value {
    let sleep = |millis| measured(|| thread::sleep(Duration::from_millis(millis))).0;
    info_span!("outer").in_scope(|| {
        let outer = sleep(10);
        let middle = info_span!("middle");
        let (middle, inner) = middle.in_scope(|| {
            let slept = middle.in_scope(|| sleep(20));
            (slept, info_span!("inner").in_scope(|| sleep(40)))
        });
        let first = info_span!("first").entered();
        let second = info_span!("second").entered();
        drop(first);
        let slept = sleep(30);
        drop(second);
        json!({ "outer": outer, "middle": middle, "inner": inner, "second": slept })
    })
}

/// Tasks that are polled on any free thread, and block it at each poll.
fn hop(tasks: u64, polls: u64) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build()?;
    runtime.block_on(async {
        let mut handles = Vec::new();
        for task in 0..tasks {
            let work = async move {
                for _ in 0..polls {
                    thread::sleep(Duration::from_millis(2));
                    tokio::task::yield_now().await;
                }
            };
            handles.push(tokio::spawn(work.instrument(info_span!("hopper", task))));
        }
        for handle in handles {
            handle.await?;
        }
        Ok(json!({}))
    })
}

/// `threads` threads that each make `spans` spans, as fast as they can.
fn many(threads: u64, spans: u64) -> Value {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..spans).for_each(|n| info_span!("one of many", n).in_scope(|| ())));
        }
    });
    json!({})
}

/// Fires `batch_emit` with a span that has a text of `bytes` bytes, which may be longer than the layer allows.
fn emit(bytes: usize) -> Value {
    let text = |text: String| Some(AnyValue { value: Some(any_value::Value::StringValue(text)) });
    let attribute =
        |key: &str, value| KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() };
    let start_time_unix_nano = 1_767_225_600_000_000_000;
    let span = OtlpSpan {
        trace_id: (bytes as u128).to_be_bytes().to_vec(),
        span_id: (bytes as u64).to_be_bytes().to_vec(),
        name: "emitted".to_owned(),
        start_time_unix_nano,
        end_time_unix_nano: start_time_unix_nano + 1000,
        attributes: vec![attribute("text", "x".repeat(bytes))],
        ..OtlpSpan::default()
    };
    let resource = Resource {
        attributes: vec![attribute("service.name", "kernel_work".to_owned())],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    let batch = ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec();
    probe::probe!(tracing, batch_emit, batch.as_ptr(), batch.len(), 1_u64);
    json!({})
}

/// Registers the thread with a block in this layout, as a layer of another version does.
fn register(layout: u64) -> Value {
    let block = [0_u64; 1024];
    probe::probe!(tracing, thread_register, block.as_ptr(), layout);
    json!({})
}

/// Two nested spans that stay open.
struct Long {
    inner: Span,
    _outer: Span,
}

impl Long {
    fn open(n: u64) -> Self {
        let outer = info_span!("outer of long", n);
        Self { inner: outer.in_scope(|| info_span!("inner of long", n)), _outer: outer }
    }
}

/// Makes `spans` short spans in each of the `long` ones.
fn below(long: &[Long], spans: u64) -> Value {
    for Long { inner, .. } in long {
        inner.in_scope(|| (0..spans).for_each(|n| info_span!("short", n).in_scope(|| burn(Duration::ZERO))));
    }
    json!({})
}

/// Makes spans for ever. Each 16th lasts a millisecond.
fn keep_busy() {
    for n in 0_u64.. {
        info_span!("busy", n).in_scope(|| {
            if n % 16 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// Spans in each other. In the innermost, the thread leaves the CPU, so the kernel's side looks at it.
fn deep(spans: u64) -> Value {
    info_span!("deep", spans).in_scope(|| {
        if spans > 1 {
            return deep(spans - 1);
        }
        thread::sleep(Duration::from_millis(1));
        json!({})
    })
}
