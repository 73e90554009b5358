//! Reads the notes of a file.

use std::fmt;
use std::fs::File;

use object::read::elf::NoteIterator;
use object::read::{Object, ObjectSection, ObjectSegment, ReadCache};
use object::{Endianness, SectionKind};

use super::callsite::{Callsites, OWNER};
use super::contract::{self, PROVIDER};
use super::{Argument, Kind, Probe};

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
            Self::NoElf => "it is no 64-bit ELF executable or library",
            Self::NoSections => {
                "it has no section headers, which are needed to find probes: strip, sstrip or a packer such as UPX removed them"
            }
        })
    }
}

impl std::error::Error for Unreadable {}

type Elf<'a> = object::File<'a, &'a ReadCache<&'a File>>;
type Notes<'a> = NoteIterator<'a, object::elf::FileHeader64<Endianness>>;

/// All probes of a file, in the order of their names.
///
/// # Errors
///
/// The file is no ELF file, or has no section headers.
pub fn probes(file: &File) -> Result<Vec<Probe>, Unreadable> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|_| Unreadable::NoElf)?;
    if !elf.is_64() || !elf.is_little_endian() {
        return Err(Unreadable::NoElf);
    }
    if elf.sections().next().is_none() {
        return Err(Unreadable::NoSections);
    }
    let mut callsites = Callsites::default();
    for name in [".note.tracing_usdt_fields", ".note.tracing_usdt"] {
        each_note(&elf, name, |note_type, owner, desc| {
            if owner == OWNER {
                callsites.add(note_type, desc);
            }
        });
    }
    let mut probes = Vec::new();
    each_note(&elf, ".note.stapsdt", |_, owner, desc| {
        if owner == b"stapsdt" {
            probes.extend(probe(&elf, &callsites, desc));
        }
    });
    probes.sort_by(|one: &Probe, other| {
        (&one.provider, &one.name, one.offset).cmp(&(&other.provider, &other.name, other.offset))
    });
    Ok(probes)
}

fn each_note(elf: &Elf<'_>, section: &str, mut f: impl FnMut(u32, &[u8], &[u8])) {
    let data = elf.section_by_name(section).and_then(|section| section.data().ok()).unwrap_or_default();
    let Ok(mut notes) = Notes::new(elf.endianness(), 4, data) else { return };
    while let Ok(Some(note)) = notes.next() {
        f(note.n_type(elf.endianness()), note.name(), note.desc());
    }
}

/// The probe of a note: three addresses, then the provider, the name and the arguments. `None` if there is no code at
/// the address: a linker writes 0 or a small number for code that it has left out.
fn probe(elf: &Elf<'_>, callsites: &Callsites, desc: &[u8]) -> Option<Probe> {
    let (address, rest) = desc.split_first_chunk()?;
    let (_base, rest) = rest.split_first_chunk::<8>()?;
    let (semaphore, texts) = rest.split_first_chunk()?;
    let address = u64::from_le_bytes(*address);
    let mut texts = texts.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let (provider, name, places) = (texts.next()?, texts.next()?, texts.next()?);
    let mut code = elf.sections().filter(|section| section.kind() == SectionKind::Text);
    if !code.any(|section| address.checked_sub(section.address()).is_some_and(|at| at < section.size())) {
        return None;
    }
    let (arguments, source) = match provider == PROVIDER {
        true => (contract::arguments(&name), None),
        false => callsites.of(address, &name, places.matches('@').count()).unzip(),
    };
    Some(Probe {
        offset: file_offset(elf, address)?,
        semaphore: file_offset(elf, u64::from_le_bytes(*semaphore)).unwrap_or(0),
        arguments: arguments.unwrap_or_else(|| unnamed(&places)),
        provider,
        name,
        source,
    })
}

/// Where an address is in the file.
fn file_offset(elf: &Elf<'_>, address: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (offset, bytes) = segment.file_range();
        let at = address.checked_sub(segment.address())?;
        (at < bytes).then_some(offset + at)
    })
}

/// The arguments of a probe that neither the layer nor a callsite has: their sizes, `-4@%eax 8@8(%rsp)`.
fn unnamed(places: &str) -> Vec<Argument> {
    let mut sizes = places.split_whitespace().filter_map(|place| place.split_once('@')?.0.parse::<i8>().ok());
    std::iter::from_fn(|| sizes.next())
        .map(|size| Argument {
            name: String::new(),
            kind: Kind::Integer { bytes: size.unsigned_abs(), is_signed: size < 0 },
        })
        .collect()
}
