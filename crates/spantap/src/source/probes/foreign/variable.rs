//! Finds the thread-local variable of OTEP 4947 in a process.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use anyhow::{Context, Result, bail};
use object::elf::{
    ET_EXEC, FileHeader64, PT_INTERP, PT_LOAD, PT_TLS, R_AARCH64_TLS_DTPMOD, R_AARCH64_TLS_TPREL,
    R_AARCH64_TLSDESC, R_X86_64_DTPMOD64, R_X86_64_TLSDESC, R_X86_64_TPOFF64, STT_TLS,
};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};
use object::read::{ReadCache, RelocationFlags, RelocationTarget};
use object::{Endianness, Object, ObjectSymbol};

use super::memory::Memory;
use crate::process::maps::Mapping;

pub(super) const NAME: &str = "otel_thread_ctx_v1";

/// Where a thread has the variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::source::probes) struct Variable {
    /// How far it is from the thread pointer; or, if there is a module, from that module's variables.
    pub(in crate::source::probes) distance: i64,
    /// The number of the loaded library, whose variables the C library has allocated for each thread; or 0.
    pub(in crate::source::probes) module: u64,
}

/// Distances are shorter, and modules fewer. Addresses are greater.
const MAX_DISTANCE: u64 = 1 << 24;
const MAX_MODULE: u64 = 1 << 16;

impl Variable {
    fn new(distance: u64, module: u64) -> io::Result<Self> {
        let distance = distance as i64;
        if distance.unsigned_abs() >= MAX_DISTANCE || module > MAX_MODULE {
            return Err(unresolved());
        }
        Ok(Self { distance, module })
    }

    fn in_module(module: u64, distance: u64) -> io::Result<Self> {
        if module == 0 { Err(unresolved()) } else { Self::new(distance, module) }
    }
}

/// A loader may find out the place only when the program first uses the variable.
fn unresolved() -> io::Error {
    io::Error::other("the program has not used it yet; attach again when it has")
}

/// Finds the variable in the executable, or in a library.
pub(super) fn find(memory: &Memory) -> Result<Option<Variable>> {
    let mappings = memory.mappings().context("can't read the mappings of the process")?;
    let code: HashSet<_> =
        mappings.iter().filter(|mapping| mapping.is_code).map(|mapping| &mapping.file).collect();
    let mut known = HashSet::new();
    let mut unreadable = None;
    for mapping in &mappings {
        // The first mapping of a file has its header.
        if mapping.file.inode == 0 || !code.contains(&mapping.file) || !known.insert(&mapping.file) {
            continue;
        }
        let file = match memory.file(mapping) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                unreadable = unreadable.or(Some((error, mapping)));
                continue;
            }
        };
        let cache = ReadCache::new(&file);
        // Not for this processor, for example.
        let Ok(elf) = Elf::parse(&cache) else { continue };
        if let Some(symbol) = symbol(&elf) {
            let found = variable(memory, mapping, &elf, symbol)
                .with_context(|| format!("can't find the place of {NAME} in {}", mapping.name.display()))?;
            // The programs in the kernel know only glibc's table of modules.
            if found.module != 0 && mappings.iter().any(is_musl) {
                bail!(
                    "{} is a library loaded by musl, whose threads' variables spantap can't find",
                    mapping.name.display()
                );
            }
            return Ok(Some(found));
        }
    }
    match unreadable {
        Some((error, mapping)) => Err(error).with_context(|| {
            let name = mapping.name.display();
            format!("can't read {name}, to look for {NAME} in it; try as root")
        }),
        None => Ok(None),
    }
}

/// Whether this is musl, by its name.
fn is_musl(mapping: &Mapping) -> bool {
    mapping.name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-musl-"))
}

type Elf<'a> = ElfFile<'a, FileHeader64<Endianness>, &'a ReadCache<&'a File>>;

/// The variable's number and value in the table of dynamic symbols.
fn symbol(elf: &Elf<'_>) -> Option<(usize, u64)> {
    let is_it = |symbol: &object::read::elf::ElfSymbol<'_, '_, FileHeader64<Endianness>, _>| {
        symbol.name() == Ok(NAME) && symbol.elf_symbol().st_type() == STT_TLS && !symbol.is_undefined()
    };
    elf.dynamic_symbols().find(is_it).map(|symbol| (symbol.index().0, symbol.address()))
}

fn variable(
    memory: &Memory,
    mapping: &Mapping,
    elf: &Elf<'_>,
    (number, value): (usize, u64),
) -> io::Result<Variable> {
    let endian = elf.endian();
    let headers = elf.elf_program_headers();
    let load = headers
        .iter()
        .find(|header| header.p_type(endian) == PT_LOAD && header.p_offset(endian) == mapping.offset);
    let bias = mapping.start.wrapping_sub(load.map_or(0, |header| header.p_vaddr(endian)));
    let relocations = elf.dynamic_relocations().into_iter().flatten();
    let mut of_it =
        relocations.filter(|(_, of)| of.target() == RelocationTarget::Symbol(object::SymbolIndex(number)));
    let found = of_it.find_map(|(offset, of)| match of.flags() {
        RelocationFlags::Elf { r_type } => Some((bias.wrapping_add(offset), r_type)),
        _ => None,
    });
    match found {
        Some((at, R_X86_64_TPOFF64 | R_AARCH64_TLS_TPREL)) => Variable::new(memory.word(at)?, 0),
        Some((at, R_X86_64_DTPMOD64 | R_AARCH64_TLS_DTPMOD)) => {
            Variable::in_module(memory.word(at)?, memory.word(at.wrapping_add(8))?)
        }
        Some((at, R_X86_64_TLSDESC | R_AARCH64_TLSDESC)) => {
            // Either the distance, or the address of a module and a distance.
            let argument = memory.word(at.wrapping_add(8))?;
            match Variable::new(argument, 0) {
                Ok(_) if argument == 0 => Err(unresolved()),
                Ok(found) => Ok(found),
                Err(_) => Variable::in_module(memory.word(argument)?, memory.word(argument.wrapping_add(8))?),
            }
        }
        Some((_, kind)) => Err(io::Error::other(format!("a relocation of kind {kind}"))),
        None if is_executable(elf) => Variable::new(in_executable(elf, value), 0),
        None => Err(io::Error::other("nothing in the library uses it by its name")),
    }
}

fn is_executable(elf: &Elf<'_>) -> bool {
    let endian = elf.endian();
    let mut headers = elf.elf_program_headers().iter();
    let is_pie = || {
        let dynamic = elf.elf_section_table().dynamic(endian, elf.data()).ok().flatten();
        let entries = dynamic.map(|(entries, _)| entries).unwrap_or_default();
        entries.iter().any(|entry| {
            u64::from(object::elf::DT_FLAGS_1) == entry.d_tag.get(endian)
                && entry.d_val.get(endian) & u64::from(object::elf::DF_1_PIE) != 0
        })
    };
    elf.elf_header().e_type(endian) == ET_EXEC
        || headers.any(|header| header.p_type(endian) == PT_INTERP)
        || is_pie()
}

/// The variables of an executable end at the thread pointer on x86-64, and begin behind it, after 16 bytes, on AArch64.
fn in_executable(elf: &Elf<'_>, value: u64) -> u64 {
    let endian = elf.endian();
    let segment = elf.elf_program_headers().iter().find(|header| header.p_type(endian) == PT_TLS);
    let (size, align) =
        segment.map_or((0, 1), |header| (header.p_memsz(endian), header.p_align(endian).max(1)));
    match cfg!(target_arch = "x86_64") {
        true => value.wrapping_sub(size.checked_next_multiple_of(align).unwrap_or(size)),
        false => 16_u64.checked_next_multiple_of(align).unwrap_or(16).wrapping_add(value),
    }
}
