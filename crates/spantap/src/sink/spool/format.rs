//! The head of a file in the spool: the kind of the file, and the version of its format.
//!
//! ```text
//! kind      16 bytes   ASCII, NULs to the end
//! version   u32        little-endian
//! CRC-32    u32        of kind and version
//! ```
//!
//! The head is the same in every version from 2 on. Version 1 had none.

/// The version that this build writes. It also reads version 1.
pub(super) const VERSION: u32 = 2;
/// The size of a head.
pub(super) const FILE_HEAD_BYTES: usize = 24;

/// The files that have a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Segment,
    Position,
    Senders,
}

impl Kind {
    fn name(self) -> [u8; 16] {
        *match self {
            Self::Segment => b"spantap segment\0",
            Self::Position => b"spantap position",
            Self::Senders => b"spantap senders\0",
        }
    }

    /// The head of a file of this kind.
    pub(super) fn head(self) -> [u8; FILE_HEAD_BYTES] {
        self.head_of(VERSION)
    }

    pub(super) fn head_of(self, version: u32) -> [u8; FILE_HEAD_BYTES] {
        let mut head = [0; FILE_HEAD_BYTES];
        head[..16].copy_from_slice(&self.name());
        head[16..20].copy_from_slice(&version.to_le_bytes());
        let crc = crc32fast::hash(&head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// The version of a file that begins with `bytes`. A file without a whole head counts as version 1. If a head is
    /// damaged, the checks of version 1 find the damage: the text of a head is no valid record, position or sender.
    pub(super) fn version(self, bytes: &[u8]) -> u32 {
        let version = || {
            let head = bytes.first_chunk::<FILE_HEAD_BYTES>()?;
            let version = u32::from_le_bytes(*head[16..].first_chunk()?);
            (*head == self.head_of(version)).then_some(version)
        };
        version().unwrap_or(1)
    }
}
