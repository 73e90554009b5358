//! `recvmmsg`, by hand: nix refuses to say who sent a message that came with file descriptors for
//! which it had no room, and with room for them the kernel would open a stranger's files in our
//! process.
#![allow(unsafe_code)] // of a system call and what it fills

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use super::datagrams::{Datagram, Datagrams};
use crate::process::Sender;

/// So many are asked for in one system call.
const AT_ONCE: usize = 16;

/// A sender's datagram can't be larger than its send buffer, 208 KiB unless somebody raised it. What is
/// cut off all the same is told.
const LARGEST: usize = 256 * 1024;

/// Where the kernel puts them. Memory that no datagram reached was never touched.
pub(super) struct Slots(Vec<u8>);

impl Slots {
    pub(super) fn new() -> Self {
        Self(vec![0; AT_ONCE * LARGEST])
    }
}

/// Of the control message with the credentials, which the kernel puts first. There is room for no other.
// SAFETY: it is arithmetic.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

/// Its length.
// SAFETY: it is arithmetic.
const CREDENTIALS: usize = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;

/// Aligned as a control message must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// What the kernel is given and fills, for each message of a call.
struct Headers {
    messages: [libc::mmsghdr; AT_ONCE],
    parts: [libc::iovec; AT_ONCE],
    controls: [Control; AT_ONCE],
}

/// Receives what is there into the empty `datagrams`. The first is waited for unless `flags` say otherwise.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    slots: &mut Slots,
    mut datagrams: Datagrams,
    flags: MsgFlags,
) -> Result<Datagrams, Errno> {
    // SAFETY: all of them are plain data for which zeros are valid.
    let mut headers: Headers = unsafe { std::mem::zeroed() };
    let Headers { messages, parts, controls } = &mut headers;
    for (index, slot) in slots.0.chunks_exact_mut(LARGEST).enumerate().take(AT_ONCE) {
        parts[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_control = controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL as _;
    }
    // SAFETY: each of the messages points to an iovec and a control buffer of `headers`, and each iovec
    // to a slot of its own; none of them moves or is read before the call is over.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            AT_ONCE as u32,
            flags.bits() as _,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| Errno::last())?;
    for (message, slot) in messages[..received].iter().zip(slots.0.chunks_exact(LARGEST)) {
        // Only what tells of our own shutdown has no sender.
        let Some(sender) = sender(&message.msg_hdr) else { continue };
        datagrams.push(Datagram {
            bytes: slot.get(..message.msg_len as usize).unwrap_or(slot),
            sender,
            cut: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    Ok(datagrams)
}

/// By the kernel's word.
fn sender(message: &libc::msghdr) -> Option<Sender> {
    // SAFETY: the kernel has filled `msg_control` and set `msg_controllen`, and the buffer is still there.
    let control = unsafe { libc::CMSG_FIRSTHDR(message) };
    if control.is_null() {
        return None;
    }
    // SAFETY: CMSG_FIRSTHDR has seen that a whole header is there.
    let header = unsafe { control.read() };
    let whole = header.cmsg_len as usize >= CREDENTIALS;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) || !whole {
        return None;
    }
    // SAFETY: by its level, type and length it holds a `ucred`, which may be unaligned.
    let credentials: libc::ucred = unsafe { libc::CMSG_DATA(control).cast::<libc::ucred>().read_unaligned() };
    Some(Sender {
        // 0 where the sender's pid namespace is not ours to see.
        pid: u32::try_from(credentials.pid).unwrap_or(0),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}
