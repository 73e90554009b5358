//! What of a file could not be read.

use std::fmt;

use crate::text::{counted, grouped};

/// What of a file could not be read so far.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Damage {
    /// The number of damaged places. What comes after a place was read.
    pub places: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the first of them begins.
    pub first_at: Option<u64>,
    /// The spans in them, as far as their number is known.
    pub spans: u64,
    /// Spans that were read and are not valid, such as one without an id.
    pub refused: u64,
    /// The bytes at the end of the file that are not whole: whoever wrote them was killed, or is still writing. Reading
    /// on takes them when the rest has come.
    pub tail_bytes: u64,
}

impl Damage {
    /// Adds a place. `spans` are in it, if that is known.
    pub(super) fn add(&mut self, at: u64, bytes: u64, spans: u64) {
        self.places += 1;
        self.bytes += bytes;
        self.spans += spans;
        self.first_at.get_or_insert(at);
    }

    /// Adds other damage that comes after this.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.places += other.places;
        self.bytes += other.bytes;
        self.spans += other.spans;
        self.refused += other.refused;
        self.first_at = self.first_at.or(other.first_at);
    }

    /// Whether everything was read.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One line for the user; empty if there is no damage.
impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes| counted(bytes, "byte", "bytes");
        if let Some(first) = self.first_at {
            write!(f, "{} damaged and left out", bytes(self.bytes))?;
            match self.places {
                1 => write!(f, ", at byte {}", grouped(first))?,
                places => write!(f, ", in {} places, the first at byte {}", grouped(places), grouped(first))?,
            }
            if self.spans > 0 {
                write!(f, ", with at least {}", counted(self.spans, "span", "spans"))?;
            }
        }
        let mut also = if self.places > 0 { "; " } else { "" };
        if self.refused > 0 {
            write!(f, "{also}{} not valid", counted(self.refused, "span", "spans"))?;
            also = "; ";
        }
        if self.tail_bytes > 0 {
            // Said of lines and messages of a collector, too.
            write!(
                f,
                "{also}an incomplete record of {} at the end: the recorder was killed or is still writing",
                bytes(self.tail_bytes)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_described_in_a_line() {
        let mut damage = Damage::default();
        assert_eq!((damage.to_string(), damage.is_none()), (String::new(), true));
        damage.add(1_234, 1, 0);
        assert_eq!(damage.to_string(), "1 byte damaged and left out, at byte 1,234");
        damage.add(5_000, 1_999, 7);
        damage.tail_bytes = 60;
        assert_eq!(
            damage.to_string(),
            "2,000 bytes damaged and left out, in 2 places, the first at byte 1,234, with at least 7 spans; \
             an incomplete record of 60 bytes at the end: the recorder was killed or is still writing"
        );
    }
}
