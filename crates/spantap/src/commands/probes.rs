//! `spantap probes`: lists the probes of a program.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, bail};

use super::cli::Probes;
use crate::notes::{self, Argument, Attached, Kind, PROVIDER, Pattern, Probe, attached};
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
    /// The path for the user, and for bpftrace.
    path: PathBuf,
    probes: Vec<Probe>,
    /// The processes that run it, as far as they can be read.
    running: Vec<Attached>,
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
    let is_chosen = |probe: &Probe| {
        options.patterns.is_empty() || options.patterns.iter().any(|pattern| pattern.matches(probe))
    };
    let mut out = anstream::AutoStream::new(io::stdout(), options.color.into());
    let mut shown = 0;
    for file in &files {
        for probes in file.probes.chunk_by(|one, other| one.full_name() == other.full_name()) {
            if is_chosen(&probes[0]) {
                shown += 1;
                match out.write_all(described(file, probes).as_bytes()) {
                    // The reader has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                    written => written?,
                }
            }
        }
    }
    if shown == 0 {
        let pattern = options.patterns.first().map_or("", Pattern::as_str);
        bail!("no probe is named {pattern:?}; without the pattern, spantap probes lists all");
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn of_file(path: &Path) -> Result<Listed> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("can't open {name}"))?;
    let probes = notes::probes(&file).with_context(|| format!("can't read the probes of {name}"))?;
    if probes.is_empty() {
        bail!(
            "{name} has no probes; does it use the layer of tracing-usdt or the macros of tracing_usdt::tracing, and was it \
             built for Linux?"
        );
    }
    let inode = file.metadata().with_context(|| format!("can't read {name}"))?.ino();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let running = processes.filter_map(|process| attached(&process, inode).ok().flatten()).collect();
    Ok(Listed { path: path.to_owned(), probes, running })
}

/// The files of a process that have probes of ours: its executable, and its libraries.
fn of_process(pid: i32) -> Result<Vec<Listed>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let can_not = || {
        format!(
            "can't read the files of process {pid}; there is none, or try as root: sudo spantap probes ..."
        )
    };
    let name = program_name(&process).with_context(can_not)?;
    let mut known = HashSet::new();
    let mut files = Vec::new();
    for mapping in mappings(&process).with_context(can_not)?.iter().filter(|mapping| mapping.is_code) {
        if mapping.file.inode == 0 || !known.insert(mapping.file.inode) {
            continue;
        }
        let opened = File::open(mapping.link(&process)).or_else(|_| File::open(mapping.path(&process)));
        let Ok(probes) = opened.map_err(|_| ()).and_then(|file| notes::probes(&file).map_err(|_| ())) else {
            continue;
        };
        if probes.iter().any(|probe| probe.provider == PROVIDER || probe.source.is_some()) {
            let running = attached(&process, mapping.file.inode).with_context(can_not)?;
            files.push(Listed { path: mapping.name.clone(), probes, running: running.into_iter().collect() });
        }
    }
    if files.is_empty() {
        bail!(
            "neither {name} (pid {pid}) nor its libraries have probes of tracing-usdt; does it use the layer or the macros of \
             tracing_usdt::tracing, and was it built for Linux?"
        );
    }
    Ok(files)
}

/// A probe as the user sees it: its name, its arguments, and a line for bpftrace. `places` are its locations.
fn described(file: &Listed, places: &[Probe]) -> String {
    let probe = &places[0];
    let mut text = format!("{NAME}{}{NAME:#}", safe(&probe.full_name()));
    if let Some(source) = &probe.source {
        let kind = if source.is_span { "span" } else { "event" };
        _ = write!(text, "  {FAINT}{} {kind}, {}:{}{FAINT:#}", source.level, safe(&source.file), source.line);
    }
    if places.len() > 1 {
        _ = write!(text, "  {FAINT}in {} places{FAINT:#}", places.len());
    }
    let counts = file.running.iter().filter_map(|process| process.to(probe));
    if let Some(count) = counts.max().filter(|count| *count > 0) {
        let consumers = counted(u64::from(count), "consumer", "consumers");
        _ = write!(text, "  {WATCHED}{consumers} attached{WATCHED:#}");
    }
    text.push('\n');
    let mut at = 0;
    let arguments: Vec<String> = probe
        .arguments
        .iter()
        .map(|argument| {
            let described = format!("arg{at} {}", named(argument, at));
            at += argument.kind.words();
            described
        })
        .collect();
    _ = write!(text, "    {}", safe(&arguments.join(", ")));
    match probe.source.as_ref().map_or(0, |source| source.left_out) {
        0 => {}
        left_out => _ = write!(text, "; no room for {}", counted(left_out as u64, "field", "fields")),
    }
    text.push('\n');
    _ = writeln!(text, "    {FAINT}{}{FAINT:#}", safe(&bpftrace(&file.path, probe)));
    text
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
    };
    if argument.name.is_empty() { kind } else { format!("{} ({kind})", argument.name) }
}

/// A command that prints each hit of the probe.
fn bpftrace(path: &Path, probe: &Probe) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
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
        };
        formats.push(format);
        values.push(value);
        at += argument.kind.words();
    }
    let (formats, values) = (formats.join(" "), values.join(", "));
    let action = if values.is_empty() {
        format!("printf(\"{}\\n\")", probe.name)
    } else {
        format!("printf(\"{formats}\\n\", {values})")
    };
    format!("bpftrace -e 'usdt:{}:{} {{ {action}; }}'", path.display(), probe.full_name())
}
