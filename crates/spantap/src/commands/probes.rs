//! `spantap probes`: lists the probes of a program.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, bail};

use super::cli::Probes;
use crate::notes::{self, Argument, Counters, Kind, Notes, PROVIDER, Probe, Source, counters};
use crate::process::maps::mappings;
use crate::process::program_name;
use crate::text::{counted, safe};

const NAME: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const WATCHED: Style = AnsiColor::Green.on_default();

/// The most arguments of a line for bpftrace: earlier versions than 0.24 read no more on x86-64.
const MAX_ARGUMENTS: usize = 6;

/// A file with probes.
struct Listed {
    probes: Vec<Probe>,
    /// The path by which bpftrace finds it, if it can.
    path: Option<String>,
    /// The processes that run it, as far as they can be read.
    running: Vec<Counters>,
}

/// Prints the probes of a file, or of the files that a process runs.
///
/// # Errors
///
/// The file or the process can't be read, or has no such probes.
pub(super) fn list(options: &Probes) -> Result<ExitCode> {
    let files = match (&options.file, options.pid) {
        (Some(path), _) => vec![of_file(path)?],
        (None, Some(pid)) => of_process(pid)?,
        (None, None) => bail!("no program to list probes of; give FILE or --pid PID"),
    };
    let all: Vec<&Probe> = files.iter().flat_map(|file| &file.probes).collect();
    for pattern in &options.patterns {
        if !all.iter().any(|probe| pattern.matches(probe)) {
            bail!("no probe is named {}; without --probe, spantap probes lists all", pattern.as_str());
        }
    }
    let is_chosen = |probe: &Probe| {
        options.patterns.is_empty() || options.patterns.iter().any(|pattern| pattern.matches(probe))
    };
    let mut out = anstream::AutoStream::new(io::stdout(), options.color.into());
    for file in &files {
        for places in file.probes.chunk_by(|one, other| one.full_name() == other.full_name()) {
            if !is_chosen(&places[0]) {
                continue;
            }
            match out.write_all(described(file, places).as_bytes()) {
                // The reader has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                written => written?,
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the probes of a file, and says on stderr if there may be more.
fn read(file: &File, name: &str) -> Result<Vec<Probe>> {
    let Notes { probes, are_damaged } =
        notes::read(file).with_context(|| format!("can't read the probes of {name}"))?;
    if are_damaged {
        let count = counted(probes.len() as u64, "probe", "probes");
        let line = format!("spantap: the notes of {name} are damaged after {count}: there may be more");
        // If stderr can't be written, there is nowhere to report that.
        let _ = writeln!(io::stderr(), "{}", safe(&line));
    }
    Ok(probes)
}

fn of_file(path: &Path) -> Result<Listed> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("can't open {name}"))?;
    let probes = read(&file, &name)?;
    if probes.is_empty() {
        bail!(
            "{name} has no probes; does it use the layer of tracing-usdt or the macros of tracing_usdt::tracing, and was it \
             built for Linux?"
        );
    }
    let metadata = file.metadata().with_context(|| format!("can't read {name}"))?;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let running = processes.filter_map(|process| counters(&process, &metadata).ok().flatten()).collect();
    let path = fs::canonicalize(path).ok().and_then(|path| for_bpftrace(&path));
    Ok(Listed { probes, path, running })
}

/// The files of a process that have probes of ours: its executable, and its libraries.
fn of_process(pid: i32) -> Result<Vec<Listed>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let can_not = || format!("can't read what process {pid} runs; there is none, or it takes root");
    let name = program_name(&process).with_context(can_not)?;
    let mappings = mappings(&process).with_context(can_not)?;
    let (mut known, mut files, mut unreadable) = (HashSet::new(), Vec::new(), None);
    for mapping in mappings.iter().filter(|mapping| mapping.is_code && mapping.file.inode != 0) {
        if !known.insert(&mapping.file) {
            continue;
        }
        let file = match mapping.open(&process) {
            Ok(file) => file,
            Err(error) => {
                unreadable.get_or_insert((error, mapping.name.display().to_string()));
                continue;
            }
        };
        let name = mapping.name.display().to_string();
        // What is no ELF file has no probes.
        let Ok(probes) = read(&file, &name) else { continue };
        if probes.iter().any(|probe| probe.provider == PROVIDER || probe.source.is_some()) {
            let metadata = file.metadata().with_context(can_not)?;
            // Its memory may be closed to this user.
            let running = counters(&process, &metadata).ok().flatten();
            let path = path_of(&process, &mapping.name, &metadata);
            files.push(Listed { probes, path, running: running.into_iter().collect() });
        }
    }
    match (files.is_empty(), unreadable) {
        (false, _) => Ok(files),
        (true, Some((error, file))) => {
            Err(error).with_context(|| format!("can't open {file}, which process {pid} runs; try as root"))
        }
        (true, None) => bail!(
            "neither {name} (pid {pid}) nor its libraries have probes of tracing-usdt; does it use the layer or the macros of \
             tracing_usdt::tracing, and was it built for Linux?"
        ),
    }
}

/// A path to a file that a process has mapped: as the process sees it, or through the process, which may be in a container.
fn path_of(process: &Path, name: &Path, file: &Metadata) -> Option<String> {
    let in_process = process.join("root").join(name.strip_prefix("/").unwrap_or(name));
    let is_it = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    };
    let paths = [name.to_owned(), in_process, process.join("exe")];
    for_bpftrace(paths.iter().find(|path| is_it(path))?)
}

/// The path as bpftrace takes it in a script: it reads over blanks, and a colon ends the path. Quotes and what a shell
/// takes for something else are left out too, since the command is to be pasted.
fn for_bpftrace(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    path.chars()
        .all(|char| char.is_ascii_alphanumeric() || "_./+@%=,-".contains(char))
        .then(|| path.to_owned())
}

/// A probe as the user sees it: its name, its arguments, and a command of bpftrace. `places` are its locations.
fn described(file: &Listed, places: &[Probe]) -> String {
    let probe = &places[0];
    let mut text = format!("{NAME}{}{NAME:#}", safe(&probe.full_name()));
    if places.len() > 1 {
        _ = write!(text, "  {FAINT}in {} places{FAINT:#}", places.len());
    }
    if file.running.iter().any(|process| process.is_attached(probe) == Some(true)) {
        _ = write!(text, "  {WATCHED}attached{WATCHED:#}");
    }
    text.push('\n');
    let mut kinds: Vec<&Probe> = Vec::new();
    for place in places {
        if !kinds.iter().any(|kind| (&kind.source, &kind.arguments) == (&place.source, &place.arguments)) {
            kinds.push(place);
        }
    }
    for kind in &kinds {
        if let Some(Source { is_span, level, file, line, .. }) = &kind.source {
            let made = if *is_span { "span" } else { "event" };
            _ = writeln!(text, "    {FAINT}{level} {made}, {}:{line}{FAINT:#}", safe(file));
        }
        _ = writeln!(text, "    {}", safe(&arguments(kind)));
    }
    // One command can't read different arguments.
    let command = match kinds[..] {
        [_] => bpftrace(file.path.as_deref(), probe),
        _ => None,
    };
    if let Some(command) = command {
        _ = writeln!(text, "    {FAINT}{}{FAINT:#}", safe(&command));
    }
    text
}

/// All arguments with their names and types.
fn arguments(probe: &Probe) -> String {
    let mut at = 0;
    let mut described = Vec::new();
    for argument in &probe.arguments {
        described.push(format!("arg{at} {}", named(argument, at)));
        at += argument.kind.words();
    }
    let text = described.join(", ");
    match probe.source.as_ref().map_or(0, |source| source.left_out) {
        0 => text,
        left_out => format!("{text}; no room for {}", counted(left_out as u64, "field", "fields")),
    }
}

/// The name and the type of an argument, of which the first is `arg{at}`.
fn named(argument: &Argument, at: usize) -> String {
    let kind = match argument.kind {
        Kind::Id => return argument.name.clone(),
        Kind::Bool => "bool".to_owned(),
        Kind::Integer { bytes, is_signed } => {
            format!("{}{}", if is_signed { 'i' } else { 'u' }, u32::from(bytes) * 8)
        }
        Kind::Text => format!("text of arg{} bytes", at + 1),
        Kind::CText => "text".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Other => "no integer".to_owned(),
    };
    if argument.name.is_empty() { kind } else { format!("{} ({kind})", argument.name) }
}

/// A command that prints each hit of the probe. None if bpftrace does not find the file, or a name in it has characters
/// that a shell or bpftrace take for something else.
fn bpftrace(path: Option<&str>, probe: &Probe) -> Option<String> {
    let is_plain = |name: &str| name.chars().all(|char| char.is_ascii_alphanumeric() || "_.".contains(char));
    if !(is_plain(&probe.provider) && is_plain(&probe.name)) {
        return None;
    }
    let (mut formats, mut values, mut at) = (Vec::new(), Vec::new(), 0);
    for argument in &probe.arguments {
        if at + argument.kind.words() > MAX_ARGUMENTS {
            break;
        }
        let (format, value) = match argument.kind {
            Kind::Id => ("%016llx", format!("arg{at}")),
            Kind::Integer { is_signed: false, .. } => ("%llu", format!("arg{at}")),
            Kind::Bool | Kind::Integer { .. } => ("%lld", format!("arg{at}")),
            Kind::Text => ("%s", format!("str(arg{at}, arg{})", at + 1)),
            Kind::CText => ("%s", format!("str(arg{at})")),
            Kind::Address => ("%llx", format!("arg{at}")),
            Kind::Other => ("%s", "\"?\"".to_owned()),
        };
        formats.push(format);
        values.push(value);
        at += argument.kind.words();
    }
    let action = match values.is_empty() {
        true => format!("printf(\"{}\\n\")", probe.name),
        false => format!("printf(\"{}\\n\", {})", formats.join(" "), values.join(", ")),
    };
    Some(format!("bpftrace -e 'usdt:{}:{} {{ {action}; }}'", path?, probe.full_name()))
}
