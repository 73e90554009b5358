//! The socket, and the datagrams that it receives.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use spantap::process::Sender;
use spantap::source::{Receiver, Socket, receive};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    (folder, path)
}

fn sender_to(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    socket
}

fn us() -> Sender {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    Sender { pid: std::process::id(), uid, gid }
}

/// Receives until the end: each datagram's bytes, its sender, and whether it was cut.
fn all(receiver: Receiver) -> Vec<(Vec<u8>, Sender, bool)> {
    let mut out = Vec::new();
    while let Some(batch) = receiver.next() {
        out.extend(batch.iter().map(|datagram| (datagram.bytes.to_vec(), datagram.sender, datagram.cut)));
    }
    receiver.end().unwrap();
    out
}

#[test]
fn the_socket_has_the_requested_permissions() {
    for mode in [0o600, 0o660, 0o666, 0o622] {
        let (_folder, path) = folder();
        let _socket = Socket::bind(&path, mode).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn dropping_the_socket_removes_its_own_path_only() {
    let (_folder, path) = folder();
    drop(Socket::bind(&path, 0o600).unwrap());
    assert!(!path.exists());

    let socket = Socket::bind(&path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixDatagram::bind(&path).unwrap();
    drop(socket);
    assert!(path.exists(), "another socket's path was removed");
    drop(other);
}

#[test]
fn a_stale_socket_is_replaced() {
    let (_folder, path) = folder();
    drop(UnixDatagram::bind(&path).unwrap());
    assert!(path.exists(), "std does not remove the path");
    let socket = Socket::bind(&path, 0o600).unwrap();
    sender_to(socket.path()).send(b"x").unwrap();
}

#[test]
fn a_path_in_use_is_refused_and_its_process_named() {
    let (_folder, path) = folder();
    let _socket = Socket::bind(&path, 0o600).unwrap();
    let error = format!("{:#}", Socket::bind(&path, 0o600).unwrap_err());
    let ours = format!("(pid {}) already listens there", std::process::id());
    assert!(error.contains(&ours) && error.contains(path.to_str().unwrap()), "{error}");

    // A socket of another type, and another form of the path.
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    let roundabout = path.parent().unwrap().join("../").join(path.strip_prefix("/tmp").unwrap());
    let error = format!("{:#}", Socket::bind(&roundabout, 0o600).unwrap_err());
    assert!(error.contains("already listens there"), "{error}");
    assert!(path.exists());
}

#[test]
fn a_file_that_is_not_a_socket_is_not_replaced() {
    let (folder, path) = folder();
    fs::write(&path, "precious").unwrap();
    let error = format!("{:#}", Socket::bind(&path, 0o600).unwrap_err());
    assert!(error.contains("other than a socket") && error.contains("another path"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let nowhere = folder.path().join("no/such/trace.sock");
    let error = format!("{:#}", Socket::bind(&nowhere, 0o600).unwrap_err());
    assert!(error.contains("no/such") && error.contains("create it"), "{error}");
    let long = folder.path().join("x".repeat(200));
    let error = format!("{:#}", Socket::bind(&long, 0o600).unwrap_err());
    assert!(error.contains("107 bytes"), "{error}");
}

#[test]
fn only_one_of_many_concurrent_binds_listens() {
    let (_folder, path) = folder();
    drop(UnixDatagram::bind(&path).unwrap());
    let start = std::sync::Barrier::new(16);
    let bound: Vec<_> = std::thread::scope(|scope| {
        let bind = || {
            start.wait();
            Socket::bind(&path, 0o600)
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(bind)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(bound.iter().filter(|socket| socket.is_ok()).count(), 1);
    sender_to(&path).send(b"x").unwrap();
}

#[test]
fn everything_sent_before_the_end_is_received_with_its_sender() {
    let (_folder, path) = folder();
    let (receiver, stop) = receive(Socket::bind(&path, 0o600).unwrap()).unwrap();
    let sent: Vec<Vec<u8>> = (0..5000_usize).map(|n| vec![n as u8; n % 700]).collect();
    let got = std::thread::scope(|scope| {
        let got = scope.spawn(|| all(receiver));
        let sender = sender_to(&path);
        sent.iter().for_each(|bytes| assert_eq!(sender.send(bytes).unwrap(), bytes.len()));
        stop.stop();
        assert!(sender.send(b"too late").is_err(), "the sender gets no error");
        assert!(!path.exists());
        got.join().unwrap()
    });
    assert_eq!(got.len(), sent.len());
    for ((bytes, sender, cut), expected) in got.iter().zip(&sent) {
        assert_eq!((bytes, *sender, *cut), (expected, us(), false));
    }
}

/// While nothing is decoded, nothing is discarded: the socket becomes full.
#[test]
fn a_decoder_that_is_stuck_blocks_senders() {
    let (_folder, path) = folder();
    let (receiver, stop) = receive(Socket::bind(&path, 0o600).unwrap()).unwrap();
    let sender = sender_to(&path);
    sender.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0_u32;
    while sender.send(&sent.to_be_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "memory has no bound");
    }
    stop.stop();
    let got = all(receiver);
    assert_eq!(got.len(), sent as usize);
    assert!(got.iter().zip(0_u32..).all(|((bytes, ..), n)| *bytes == n.to_be_bytes()));
}

#[test]
fn a_datagram_that_is_too_large_is_marked_as_cut() {
    let (_folder, path) = folder();
    let (receiver, stop) = receive(Socket::bind(&path, 0o600).unwrap()).unwrap();
    let sender = sender_to(&path);
    let raised = setsockopt(&sender, sockopt::SndBufForce, &(1 << 20));
    let large = vec![b'x'; if raised.is_ok() { 300_000 } else { 200_000 }];
    sender.send(&large).unwrap();
    sender.send(b"next").unwrap();
    stop.stop();
    let got = all(receiver);
    let whole = raised.is_err();
    assert_eq!((got[0].0.len(), got[0].2), (if whole { 200_000 } else { 256 * 1024 }, !whole));
    assert_eq!((&got[1].0[..], got[1].2), (&b"next"[..], false));
}

/// A sender may attach file descriptors to a datagram. They must not stay open in our process.
#[test]
fn descriptors_attached_to_datagrams_are_closed() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let (_folder, path) = folder();
    let (receiver, stop) = receive(Socket::bind(&path, 0o600).unwrap()).unwrap();
    let sender = sender_to(&path);
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    for _ in 0..100 {
        let descriptors = [theirs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let text = [std::io::IoSlice::new(b"x")];
        sendmsg::<()>(sender.as_raw_fd(), &text, &rights, MsgFlags::empty(), None).unwrap();
    }
    stop.stop();
    let got = all(receiver);
    assert_eq!(got.len(), 100);
    assert!(got.iter().all(|(bytes, sender, _)| bytes == b"x" && *sender == us()));
    // With a copy still open, `ours` would still have a peer.
    drop(theirs);
    assert!(ours.send(b"x").is_err());
}
