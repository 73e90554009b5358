//! Reads the notes of a file.

use std::fmt;
use std::fs::File;
use std::ops::Range;

use object::elf::FileHeader64;
use object::read::elf::NoteIterator;
use object::read::{Object, ObjectSection, ObjectSegment, ReadCache};
use object::{Endianness, SectionKind};

use super::callsite::{Callsites, OWNER};
use super::contract::{self, PROVIDER};
use super::{Argument, Kind, Probe, is_counter_of_exit};

/// Why a file's probes can't be read.
#[derive(Debug)]
pub enum Unreadable {
    /// It is no ELF file of 64 bits and in the order of bytes of x86-64.
    NoElf,
    /// It has no section headers.
    NoSections,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoElf => "it is no 64-bit ELF executable or library, or only a part of one",
            Self::NoSections => {
                "it has no section headers, which are needed to find probes: strip, sstrip or a packer such as UPX removed them"
            }
        })
    }
}

impl std::error::Error for Unreadable {}

type Elf<'a> = object::File<'a, &'a ReadCache<&'a File>>;

/// The longest section with notes that is read. A callsite takes some 400 bytes.
const MAX_SECTION_BYTES: u64 = 64 << 20;

/// What the notes of a file say.
#[derive(Debug)]
pub struct Notes {
    /// All probes, in the order of their names.
    pub probes: Vec<Probe>,
    /// Whether there may be more, which can't be read.
    pub are_damaged: bool,
}

/// Reads the notes of a file.
///
/// # Errors
///
/// The file is no ELF file, or has no section headers.
pub fn read(file: &File) -> Result<Notes, Unreadable> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|_| Unreadable::NoElf)?;
    if !elf.is_64() || !elf.is_little_endian() {
        return Err(Unreadable::NoElf);
    }
    if elf.sections().next().is_none() {
        return Err(Unreadable::NoSections);
    }
    let mut callsites = Callsites::default();
    let mut is_whole = true;
    for name in [".note.tracing_usdt_fields", ".note.tracing_usdt"] {
        is_whole &= each_note(&elf, name, |note_type, owner, desc| {
            if owner == OWNER {
                callsites.add(note_type, desc);
            }
        });
    }
    let layout = Layout::of(&elf);
    let mut probes = Vec::new();
    is_whole &= each_note(&elf, ".note.stapsdt", |_, owner, desc| {
        if owner == b"stapsdt" {
            probes.extend(probe(&layout, &callsites, desc));
        }
    });
    probes.sort_by(|one: &Probe, other| {
        (&one.provider, &one.name, one.offset).cmp(&(&other.provider, &other.name, other.offset))
    });
    Ok(Notes { probes, are_damaged: !is_whole })
}

/// Calls `f` for each note of a section. Returns whether all could be read.
fn each_note(elf: &Elf<'_>, section: &str, mut f: impl FnMut(u32, &[u8], &[u8])) -> bool {
    let Some(section) = elf.section_by_name(section) else { return true };
    if section.size() > MAX_SECTION_BYTES {
        return false;
    }
    let Ok(data) = section.data() else { return false };
    let notes = NoteIterator::<FileHeader64<Endianness>>::new(elf.endianness(), 4, data);
    let Ok(mut notes) = notes else { return false };
    loop {
        match notes.next() {
            Ok(Some(note)) => f(note.n_type(elf.endianness()), note.name(), note.desc()),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Where the parts of a file are in memory.
struct Layout {
    code: Vec<Range<u64>>,
    /// The addresses of each segment, and where it begins in the file.
    segments: Vec<(Range<u64>, u64)>,
}

impl Layout {
    fn of(elf: &Elf<'_>) -> Self {
        let range = |start: u64, bytes: u64| start..start.saturating_add(bytes);
        let code = elf.sections().filter(|section| section.kind() == SectionKind::Text);
        let segments = elf.segments().map(|segment| {
            let (offset, bytes) = segment.file_range();
            (range(segment.address(), bytes), offset)
        });
        Self {
            code: code.map(|section| range(section.address(), section.size())).collect(),
            segments: segments.collect(),
        }
    }

    fn is_code(&self, address: u64) -> bool {
        self.code.iter().any(|code| code.contains(&address))
    }

    /// Where an address is in the file.
    fn offset(&self, address: u64) -> Option<u64> {
        let (segment, offset) = self.segments.iter().find(|(segment, _)| segment.contains(&address))?;
        offset.checked_add(address - segment.start)
    }
}

/// The probe of a note: three addresses, then the provider, the name and the arguments. `None` if there is no code at
/// the address: a linker writes 0 or a small number for code that it has left out.
fn probe(layout: &Layout, callsites: &Callsites, desc: &[u8]) -> Option<Probe> {
    let (address, rest) = desc.split_first_chunk()?;
    let (_base, rest) = rest.split_first_chunk::<8>()?;
    let (semaphore, texts) = rest.split_first_chunk()?;
    let address = u64::from_le_bytes(*address);
    let mut texts = texts.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let (provider, name, places) = (texts.next()?, texts.next()?, texts.next()?);
    if !layout.is_code(address) {
        return None;
    }
    let semaphore = layout.offset(u64::from_le_bytes(*semaphore)).unwrap_or(0);
    let (arguments, source) = match provider == PROVIDER {
        true => (contract::arguments(&name), None),
        false => callsites.of(address, is_counter_of_exit(semaphore), places.matches('@').count()).unzip(),
    };
    Some(Probe {
        offset: layout.offset(address)?,
        semaphore,
        arguments: arguments.unwrap_or_else(|| unnamed(&places)),
        provider,
        name,
        source,
    })
}

/// The arguments of a probe that neither the layer nor a callsite has: their sizes, `-4@%eax 8@8(%rsp)`.
fn unnamed(places: &str) -> Vec<Argument> {
    let sizes = places.split_whitespace().filter_map(|place| Some(place.split_once('@')?.0));
    let kind = |size: &str| match size.parse::<i8>() {
        Ok(size) => Kind::Integer { bytes: size.unsigned_abs(), is_signed: size < 0 },
        Err(_) => Kind::Other,
    };
    sizes.map(|size| Argument { name: String::new(), kind: kind(size) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(address: u64, semaphore: u64, texts: &[u8]) -> Vec<u8> {
        [&address.to_le_bytes()[..], &[0; 8], &semaphore.to_le_bytes(), texts].concat()
    }

    #[test]
    fn notes_that_make_no_sense_are_left_out() {
        let beyond = Layout {
            code: std::iter::once(0x1000..0x2000).collect(),
            segments: vec![(0x1000..0x3000, u64::MAX - 0x10)],
        };
        let callsites = Callsites::default();
        assert!(probe(&beyond, &callsites, b"short").is_none());
        assert!(probe(&beyond, &callsites, &desc(0x1000, 0, b"provider\0name")).is_none());
        assert!(probe(&beyond, &callsites, &desc(0x10, 0, b"provider\0name\0\0")).is_none(), "no code");
        assert!(probe(&beyond, &callsites, &desc(0x1100, 0, b"provider\0name\0\0")).is_none(), "in no file");
        let layout = Layout { segments: vec![(0x1000..0x3000, 0x200)], ..beyond };
        let note = desc(0x1100, 0x2102, b"p\0\xff\0-4@%eax 8f@%xmm0 2@8(%rsp)\0");
        let found = probe(&layout, &callsites, &note).expect("a probe");
        assert_eq!((found.offset, found.semaphore, &*found.name), (0x300, 0x1302, "\u{fffd}"));
        let kinds: Vec<Kind> = found.arguments.iter().map(|argument| argument.kind).collect();
        let integer = |bytes, is_signed| Kind::Integer { bytes, is_signed };
        assert_eq!(kinds, [integer(4, true), Kind::Other, integer(2, false)]);
        assert!(!found.is_exit(), "it is no callsite's");
    }
}
