//! A call of `recvmmsg`. nix returns no sender for a message that came with file descriptors if there is no room for
//! them; and with room the kernel would open a stranger's files in this process.
#![allow(unsafe_code)] // for a system call and the memory that it fills

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use super::batch::Datagrams;
use crate::pipeline::Datagram;
use crate::process::Sender;

/// The most datagrams of one system call.
const MAX_DATAGRAMS: usize = 16;

/// A datagram can't be larger than its sender's send buffer, which is 208 KiB by default. A datagram that is cut
/// off all the same is reported.
const MAX_DATAGRAM_BYTES: usize = 256 * 1024;

/// Buffers for the datagrams. Pages that no datagram has reached were never touched.
pub(super) struct Slots(Vec<u8>);

impl Slots {
    pub(super) fn new() -> Self {
        Self(vec![0; MAX_DATAGRAMS * MAX_DATAGRAM_BYTES])
    }
}

/// Room for the control message with the credentials. The kernel puts it first; there is no room for another.
// SAFETY: it is arithmetic.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

/// The length of that message.
// SAFETY: it is arithmetic.
const CREDENTIALS_BYTES: usize = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;

/// Aligned as a control message must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// The headers of all messages of a call, which the kernel reads and fills.
struct Headers {
    messages: [libc::mmsghdr; MAX_DATAGRAMS],
    parts: [libc::iovec; MAX_DATAGRAMS],
    controls: [Control; MAX_DATAGRAMS],
}

/// Receives the waiting datagrams into the empty `datagrams`. Waits for the first one unless `flags` say otherwise.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    slots: &mut Slots,
    mut datagrams: Datagrams,
    flags: MsgFlags,
) -> Result<Datagrams, Errno> {
    // SAFETY: all of them are plain data for which zeros are valid.
    let mut headers: Headers = unsafe { std::mem::zeroed() };
    let Headers { messages, parts, controls } = &mut headers;
    for (index, slot) in slots.0.chunks_exact_mut(MAX_DATAGRAM_BYTES).enumerate().take(MAX_DATAGRAMS) {
        parts[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_control = controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
    }
    // SAFETY: each of the messages points to an iovec and a control buffer of `headers`, and each iovec
    // to a slot of its own; none of them moves or is read before the call is over.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            MAX_DATAGRAMS as u32,
            flags.bits() as _,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| Errno::last())?;
    for (message, slot) in messages[..received].iter().zip(slots.0.chunks_exact(MAX_DATAGRAM_BYTES)) {
        // The message for our own shutdown has no sender.
        let Some(sender) = sender(&message.msg_hdr) else { continue };
        datagrams.push(Datagram {
            bytes: slot.get(..message.msg_len as usize).unwrap_or(slot),
            sender,
            cut: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    Ok(datagrams)
}

/// The sender's credentials, as the kernel has filled them in.
fn sender(message: &libc::msghdr) -> Option<Sender> {
    // SAFETY: the kernel has filled `msg_control` and set `msg_controllen`, and the buffer is still there.
    let control = unsafe { libc::CMSG_FIRSTHDR(message) };
    if control.is_null() {
        return None;
    }
    // SAFETY: CMSG_FIRSTHDR has seen that a whole header is there.
    let header = unsafe { control.read() };
    let whole = header.cmsg_len as usize >= CREDENTIALS_BYTES;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) || !whole {
        return None;
    }
    // SAFETY: by its level, type and length it holds a `ucred`, which may be unaligned.
    let credentials: libc::ucred = unsafe { libc::CMSG_DATA(control).cast::<libc::ucred>().read_unaligned() };
    Some(Sender {
        // The pid is 0 if the sender's pid namespace is not visible from ours.
        pid: u32::try_from(credentials.pid).unwrap_or(0),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}
