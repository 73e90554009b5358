//! Finds the probes in a file, or the reason why it has none.

use std::fs::File;

use object::read::elf::NoteIterator;
use object::read::{Object, ObjectSection, ObjectSegment, ReadCache};
use object::{Endianness, SectionKind};

use crate::notes::PROVIDER;

/// The probe that spantap needs.
const NEEDED_PROBE: &str = "batch_emit";

/// A probe that earlier versions of the layer have, too.
const EARLIER_PROBE: &str = "span_emit";

/// The section of the probes' semaphores. Other programs with probes have it, too.
const SEMAPHORES: &str = ".probes";

/// A text in the read-only data of every program with the layer, stripped or not.
const LAYER: &[u8] = b"tracing_usdt";

/// Where the probes are in a file. Two versions of a file with equal layouts have them at the same places.
#[derive(PartialEq, Eq, Debug)]
pub(in crate::source::probes) struct Layout {
    notes: Vec<u8>,
    /// The address of each segment, and its offset and size in the file.
    segments: Vec<(u64, (u64, u64))>,
}

/// What is missing in a file without probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::source::probes) enum Lack {
    /// The layer. The file may not even be an ELF file.
    Layer,
    /// The probe that spantap needs. The file has an earlier version of the layer.
    Probe,
    /// The notes with the addresses of the layer's probes.
    Notes,
    /// The code of the probes; the file has only their notes.
    Code,
    /// Section headers, which are needed to find the layer and the notes.
    Sections,
}

impl Lack {
    /// Why the file `name` can't be attached to, and what to do.
    pub(in crate::source::probes) fn message(self, name: &str) -> String {
        match self {
            Self::Layer => format!(
                "{name} has no probes of tracing-usdt; does it use the layer, and was it built for Linux?"
            ),
            Self::Probe => format!(
                "{name} has an earlier version of tracing-usdt, without the probe {NEEDED_PROBE}; build it with the version \
                 of this spantap, or let it send its spans to spantap listen"
            ),
            Self::Notes => format!(
                "{name} has the layer of tracing-usdt, but no notes of its probes: a linker script, objcopy or strip \
                 removed the section .note.stapsdt; build it without that step (plain strip keeps the section), or \
                 let it send its spans to spantap listen"
            ),
            Self::Code => format!(
                "the linker left the probes out of {name}, because nothing in it uses the layer of tracing-usdt; add \
                 the layer to its subscriber"
            ),
            Self::Sections => format!(
                "{name} has no section headers, which are needed to find probes: strip, sstrip or a packer such as UPX \
                 removed them; if the program has the layer, use the file as the linker wrote it"
            ),
        }
    }
}

/// Looks for the probes in `file`.
pub(in crate::source::probes) fn look(file: &File) -> Result<Layout, Lack> {
    let cache = ReadCache::new(file);
    let Ok(elf) = object::File::parse(&cache) else { return Err(Lack::Layer) };
    if elf.sections().next().is_none() {
        return Err(Lack::Sections);
    }
    let notes = elf.section_by_name(".note.stapsdt").and_then(|section| section.data().ok());
    let address_of = |probe| notes.and_then(|notes| Some((notes, probe_address(&elf, notes, probe)?)));
    match address_of(NEEDED_PROBE) {
        Some((notes, address)) if is_code(&elf, address) => {
            let segments = elf.segments().map(|segment| (segment.address(), segment.file_range())).collect();
            Ok(Layout { notes: notes.to_vec(), segments })
        }
        Some(_) => Err(Lack::Code),
        None if address_of(EARLIER_PROBE).is_some() => Err(Lack::Probe),
        None if has_layer(&elf) => Err(Lack::Notes),
        None => Err(Lack::Layer),
    }
}

type Elf<'a> = object::File<'a, &'a ReadCache<&'a File>>;

/// The address in the note of a probe.
fn probe_address(elf: &Elf<'_>, notes: &[u8], probe: &str) -> Option<u64> {
    let mut notes =
        NoteIterator::<object::elf::FileHeader64<Endianness>>::new(elf.endianness(), 4, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        // Three addresses, then the provider, the name and the locations of the arguments.
        let Some((addresses, texts)) = note.desc().split_at_checked(24) else { continue };
        let mut words = texts.split(|byte| *byte == 0);
        if words.next() == Some(PROVIDER.as_bytes()) && words.next() == Some(probe.as_bytes()) {
            let address = addresses.first_chunk().copied()?;
            let is_little = elf.is_little_endian();
            return Some(if is_little { u64::from_le_bytes(address) } else { u64::from_be_bytes(address) });
        }
    }
    None
}

/// Whether there is code at the address. A linker writes 0 or a small number for code that it has left out.
fn is_code(elf: &Elf<'_>, address: u64) -> bool {
    let mut code = elf.sections().filter(|section| section.kind() == SectionKind::Text);
    code.any(|section| address.checked_sub(section.address()).is_some_and(|at| at < section.size()))
}

fn has_layer(elf: &Elf<'_>) -> bool {
    let has_marker = |data: &[u8]| data.windows(LAYER.len()).any(|bytes| bytes == LAYER);
    let is_read_only = |kind| matches!(kind, SectionKind::ReadOnlyData | SectionKind::ReadOnlyString);
    let mut texts = elf.sections().filter(|section| is_read_only(section.kind()));
    elf.section_by_name(SEMAPHORES).is_some() && texts.any(|section| section.data().is_ok_and(has_marker))
}
