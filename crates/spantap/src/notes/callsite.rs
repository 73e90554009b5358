//! What a callsite's probe says in notes of its own: `.note.tracing_usdt_fields` has a description of each callsite,
//! with the names of its fields, and `.note.tracing_usdt` the kinds of the fields at each place in the code.
//!
//! Both have a number that stands for the callsite alone: one name may be that of several callsites.

use std::collections::HashMap;

use super::{Argument, Kind, Source};

/// The owner of both notes.
pub(super) const OWNER: &[u8] = b"tracing-usdt";

/// The type of a note that describes a callsite.
pub(super) const DESCRIPTION: u32 = 1;

/// The type of a note with the kinds of the fields.
pub(super) const KINDS: u32 = 2;

/// All callsites of a file.
#[derive(Default)]
pub(super) struct Callsites {
    described: HashMap<u64, (Source, Vec<String>)>,
    /// By the address of the probe's instruction.
    kinds: HashMap<u64, (u64, [u8; 16])>,
}

impl Callsites {
    /// Takes in a note of `OWNER`.
    pub(super) fn add(&mut self, note_type: u32, desc: &[u8]) {
        // What a later version of the layer writes is left out.
        if note_type == DESCRIPTION {
            self.described.extend(description(desc));
        } else if note_type == KINDS {
            self.kinds.extend(kinds(desc));
        }
    }

    /// What is known of the probe at `address`: its arguments, of which its note has `count`, and its source.
    pub(super) fn of(&self, address: u64, is_exit: bool, count: usize) -> Option<(Vec<Argument>, Source)> {
        let (key, kinds) = self.kinds.get(&address)?;
        let (source, fields) = self.described.get(key)?;
        let id = if source.is_span { "span id" } else { "current span id" };
        let mut arguments = vec![Argument { name: id.to_owned(), kind: Kind::Id }];
        if is_exit {
            let duration = Kind::Integer { bytes: 8, is_signed: false };
            arguments.push(Argument { name: "duration in nanoseconds".to_owned(), kind: duration });
            return Some((arguments, source.clone()));
        }
        let mut used = 1;
        for (kind, field) in kinds.iter().map_while(|kind| kind_of(*kind)).zip(fields) {
            used += kind.words();
            if used > count {
                break;
            }
            arguments.push(Argument { name: field.clone(), kind });
        }
        let left_out = (fields.len() + 1).saturating_sub(arguments.len());
        Some((arguments, Source { left_out, ..source.clone() }))
    }
}

/// The number of the callsite, the line, the level, whether it is a span, and texts: name, target, file and the fields.
fn description(desc: &[u8]) -> Option<(u64, (Source, Vec<String>))> {
    let (place, rest) = desc.split_first_chunk()?;
    let (line, rest) = rest.split_first_chunk()?;
    let (&[level, is_span], texts) = rest.split_first_chunk()?;
    let level = *["error", "warn", "info", "debug", "trace"].get(usize::from(level.checked_sub(1)?))?;
    let mut texts = texts.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let (_name, target, file) = (texts.next()?, texts.next()?, texts.next()?);
    let line = u32::from_le_bytes(*line);
    let source = Source {
        is_span: is_span != 0,
        level,
        target: target.into_owned(),
        file: file.into_owned(),
        line,
        left_out: 0,
    };
    Some((u64::from_le_bytes(*place), (source, texts.map(|text| text.into_owned()).collect())))
}

/// The address of the instruction, the number of the callsite, and the kinds.
fn kinds(desc: &[u8]) -> Option<(u64, (u64, [u8; 16]))> {
    let (address, rest) = desc.split_first_chunk()?;
    let (place, rest) = rest.split_first_chunk()?;
    let (kinds, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*address), (u64::from_le_bytes(*place), *kinds)))
}

/// The kind of a field; `None` at the end of the list, and for a kind that a later version of the layer has.
fn kind_of(kind: u8) -> Option<Kind> {
    match kind {
        b'b' => Some(Kind::Bool),
        b's' => Some(Kind::Text),
        b'c' => Some(Kind::CText),
        1 | 2 | 4 | 8 => Some(Kind::Integer { bytes: kind, is_signed: false }),
        0x81 | 0x82 | 0x84 | 0x88 => Some(Kind::Integer { bytes: kind & 0x7f, is_signed: true }),
        _ => None,
    }
}
