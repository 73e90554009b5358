//! Recorded datagrams in a file, each after its length.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use memchr::memmem::Finder;

/// The text before a trace id. Each span has it once, and no value in the recordings contains it.
const TRACE_ID: &[u8] = b"\"traceId\":\"";

/// The bytes before a trace id in protobuf, and those before the span id, which is behind it.
const ENCODED_TRACE_ID: &[u8] = &[0x0a, 16];
const ENCODED_SPAN_ID: &[u8] = &[0x12, 8];

/// The digits of a trace id that a pass overwrites, or its bytes in protobuf. The others are random, and stay.
const PASS: usize = 8;

/// Appends a datagram to a recording.
pub fn write(out: &mut impl Write, datagram: &[u8]) -> io::Result<()> {
    out.write_all(&u32::try_from(datagram.len()).map_err(io::Error::other)?.to_le_bytes())?;
    out.write_all(datagram)
}

/// A recording in memory.
pub struct Recording {
    bytes: Vec<u8>,
    datagrams: Vec<Recorded>,
}

struct Recorded {
    bytes: Range<usize>,
    /// The positions of its trace ids.
    ids: Vec<usize>,
}

impl Recording {
    /// Reads what [`write()`] wrote.
    pub fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let bytes = fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
        let (finder, encoded) = (Finder::new(TRACE_ID), Finder::new(ENCODED_TRACE_ID));
        let mut datagrams = Vec::new();
        let mut at = 0;
        while let Some((length, _)) = bytes[at..].split_first_chunk::<4>() {
            let begin = at + length.len();
            let range = begin..begin + u32::from_le_bytes(*length) as usize;
            let datagram = bytes.get(range.clone()).ok_or("the recording ends in the middle")?;
            let ids = match datagram {
                [b'[' | b'{', ..] => {
                    finder.find_iter(datagram).map(|id| begin + id + TRACE_ID.len()).collect()
                }
                _ => {
                    let ids = encoded.find_iter(datagram).map(|id| id + ENCODED_TRACE_ID.len());
                    let is_id = |id: &usize| datagram[*id..].get(16..18) == Some(ENCODED_SPAN_ID);
                    ids.filter(is_id).map(|id| begin + id).collect()
                }
            };
            at = range.end;
            datagrams.push(Recorded { bytes: range, ids });
        }
        if datagrams.is_empty() {
            return Err(format!("there is no datagram in {}", path.display()).into());
        }
        Ok(Self { bytes, datagrams })
    }

    /// The number of datagrams.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// A datagram and the number of its spans. Its trace ids differ from those of other passes, because a
    /// duplicate of a span is less work for a collector.
    pub fn datagram(&mut self, index: usize, pass: u32) -> (&[u8], usize) {
        let Recorded { bytes, ids } = &self.datagrams[index];
        let digits = format!("{pass:0PASS$x}");
        for id in ids {
            self.bytes[*id..*id + PASS].copy_from_slice(digits.as_bytes());
        }
        (&self.bytes[bytes.clone()], ids.len())
    }

    /// The id of the first trace of a datagram in protobuf, in hex, as the last pass left it.
    pub fn trace_id(&self, index: usize) -> Option<String> {
        let at = *self.datagrams[index].ids.first()?;
        Some(self.bytes.get(at..at + 16)?.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
