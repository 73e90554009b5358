//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::metrics::Address;
use crate::sink::{SPOOL_BYTES, Target};

/// Shows the traces of programs with tracing-usdt in the terminal, and forwards them.
#[derive(Parser, Debug)]
#[command(name = "spantap", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a program and show its traces; ends with it, with its exit code
    Run(Run),
    /// Listen on a socket that any number of programs write to, until Ctrl-C or SIGTERM
    Listen(Listen),
    /// Attach to the probes of a running program through eBPF, and show what the kernel did in its spans
    Attach(Attach),
    /// Print a completion script for a shell
    Completions {
        /// For which
        shell: clap_complete::Shell,
    },
    /// Print the manual pages: spantap man | man -l -
    Man,
}

/// Of `run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_HELP)]
pub struct Run {
    /// What all commands have.
    #[command(flatten)]
    pub common: Common,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

const RUN_HELP: &str = "Signals are passed on to the program, but for SIGKILL, SIGSTOP, SIGCHLD, and those that report \
                        a fault, such as SIGSEGV. Ctrl-Z stops both, and fg continues both. If spantap is killed, the \
                        program goes on without it.";

/// Of `listen`.
#[derive(Args, Debug)]
pub struct Listen {
    /// Where to listen; programs find it through TRACING_USDT_SOCKET
    #[arg(value_hint = ValueHint::FilePath)]
    pub socket: PathBuf,
    /// Who may write to it, in octal: 0600 is our own user, 0666 everybody
    #[arg(long, value_parser = mode, default_value = "0600")]
    pub mode: u32,
    /// Take spans of this user alone, by the kernel's word; may be repeated
    #[arg(long, value_name = "UID")]
    pub allow_uid: Vec<u32>,
    /// What all commands have.
    #[command(flatten)]
    pub common: Common,
}

/// Of `attach`.
#[derive(Args, Debug)]
#[command(after_help = ATTACH_HELP)]
pub struct Attach {
    /// To what.
    #[command(flatten)]
    pub to: AttachTo,
    /// What to see of the kernel: sched (off the CPU, run queue, throttling), block (disk I/O), net (TCP),
    /// exec (child processes); syscall, which makes each system call of the whole machine slower; or none
    #[arg(long, value_name = "PARTS", value_delimiter = ',', default_value = "sched,block,net,exec")]
    pub kernel: Vec<Kernel>,
    /// What took less is added up for each span, not shown by itself
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "100us")]
    pub min: Duration,
    /// What all commands have.
    #[command(flatten)]
    pub common: Common,
}

const ATTACH_HELP: &str = "It takes root, and a Linux of 5.18 or later with BTF. The program needs no restart; while \
                           nobody is attached, its probes cost next to nothing.";

/// To what `attach` attaches.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct AttachTo {
    /// The process; spantap ends with it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// All processes of this executable or library, present and future, by any path that leads to it, such
    /// as /proc/PID/exe or /proc/PID/root/app/server of a container. New builds that are put in its place are
    /// followed, too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub exe: Option<PathBuf>,
}

/// A part of the kernel.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Time off the CPU.
    Sched,
    /// Block I/O.
    Block,
    /// TCP.
    Net,
    /// Child processes.
    Exec,
    /// System calls.
    Syscall,
    /// Nothing.
    None,
}

impl Kernel {
    /// All that there is to see.
    pub const ALL: [Self; 5] = [Self::Sched, Self::Block, Self::Net, Self::Exec, Self::Syscall];
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sched => "sched",
            Self::Block => "block",
            Self::Net => "net",
            Self::Exec => "exec",
            Self::Syscall => "syscall",
            Self::None => "none",
        })
    }
}

/// What all commands have.
#[derive(Args, Debug)]
pub struct Common {
    /// Forward the spans: otlp=http://HOST:4318, otlp=grpc://HOST:4317, zipkin=http://HOST:9411,
    /// jsonl=FILE, or just otlp for where OTEL_EXPORTER_OTLP_ENDPOINT says; may be repeated. The other
    /// variables of that kind (HEADERS, TIMEOUT, COMPRESSION, CERTIFICATE, ...) hold for all of otlp
    #[arg(long, value_name = "TARGET")]
    pub to: Vec<Target>,
    /// Keep what is not forwarded yet in this folder, over an outage of the backend and restarts
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "to")]
    pub spool: Option<PathBuf>,
    /// The most a target may have in the spool, in MiB; beyond it the oldest are dropped
    #[arg(long, value_name = "MIB", default_value_t = SPOOL_BYTES >> 20, requires = "spool",
        value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub spool_size: u64,
    /// Serve the figures to Prometheus at /metrics on HOST:PORT, such as localhost:9464, or :9464 for every
    /// address of this machine
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<Address>,
    /// Show no traces
    #[arg(long, short)]
    pub quiet: bool,
    /// Show so many traces a second, and as many again that have errors; 0 is all. By default 5 on a
    /// terminal, and all elsewhere
    #[arg(long, value_name = "N")]
    pub max_traces: Option<u32>,
    /// Leave out traces that are shorter, such as 10ms or 1.5s
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub min_duration: Duration,
    /// Whether in colour; `auto` heeds NO_COLOR and whether it is a terminal
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// At the end, go on forwarding for so long at most
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub flush_timeout: Duration,
}

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Also elsewhere.
    Always,
    /// Nowhere.
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "permissions are up to three octal digits, such as 0660".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("min", 60.0), ("s", 1.0)];
    let found = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let parsed = found.and_then(|(number, seconds)| Some(number.trim().parse::<f64>().ok()? * seconds));
    let duration = parsed.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // Longer than anybody waits, and short enough to be added to any time.
    let duration = duration.filter(|duration| *duration <= Duration::from_secs(366 * 86_400));
    duration.ok_or_else(|| "write a number and its unit, such as 250us, 10ms, 1.5s or 2min".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        let cases =
            [("250us", 250_000), ("10ms", 10_000_000), ("1.5s", 1_500_000_000), ("2min", 120_000_000_000)];
        for (text, ns) in cases {
            assert_eq!(duration(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for text in ["", "10", "ms", "-1s", "1 week", "infs", "10000000000000000000s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!((mode("0600"), mode("666")), (Ok(0o600), Ok(0o666)));
        assert!(["", "8", "1777", "rw"].iter().all(|text| mode(text).is_err()));
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        let cli =
            Cli::try_parse_from(["spantap", "run", "--quiet", "--", "./service", "--quiet", "-v"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("it is run") };
        assert!(run.common.quiet);
        assert_eq!(run.command, ["./service", "--quiet", "-v"]);
    }
}
