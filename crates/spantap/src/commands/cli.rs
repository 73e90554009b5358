//! The command line. `otlp` has the options for OTLP requests.

mod otlp;

mod diff;
mod findings;

mod keep;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub(super) use diff::Diff;

use self::findings::FindingsOption;
use crate::export;
use crate::metrics::Address;
use crate::notes::Pattern;
use crate::query::{Query, QueryError, names};
use crate::search::{Order, Wanted};
use crate::sink::{SPOOL_BYTES, Target};
use crate::source::Kernel;
use crate::text::{parse_time, time_ago};
use keep::Keep;

pub(super) use otlp::OtlpIn;

/// Show the traces of programs that use tracing-usdt in the terminal, and forward them to a tracing backend
#[derive(Parser, Debug)]
#[command(name = "spantap", version, max_term_width = 100)]
pub struct Cli {
    /// The chosen command.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands of spantap.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run a program, show its traces, and exit with its exit code
    Run(Run),
    /// Listen on a Unix socket that any number of programs send to, or for OTLP, until Ctrl-C or SIGTERM
    Listen(Listen),
    /// Attach to running programs through eBPF, and show what the kernel did during their spans
    Attach(Attach),
    /// Record spans to a file, from a socket, a program to run, or running programs
    Record(Box<Record>),
    /// Show traces from files: captures, and what an OpenTelemetry Collector's file exporter writes
    View(View),
    /// Show who calls whom in such files, with counts, errors and durations: as a table or as a picture
    Graph(Graph),
    /// Compare such files from before and after a change: which spans take longer, fail or call more, and why
    Diff(Box<Diff>),
    /// Write spans from such files as files that others open: a report in HTML, flame graphs, Perfetto, Parquet, OTLP
    Export(Export),
    /// Show which spans are slow, how often they fail and where their time goes, on a full screen
    Top(Box<Top>),
    /// List the probes of a program, with their arguments and a bpftrace command for each
    Probes(Probes),
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual pages; to read them: spantap man | man -l -
    Man,
}

/// The options of `run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_HELP)]
pub(super) struct Run {
    /// The options that all collecting commands share.
    #[command(flatten)]
    pub(super) common: Common,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

const RUN_HELP: &str = "spantap passes signals on to the program, except SIGKILL, SIGSTOP, SIGCHLD and signals that \
                        report a fault, such as SIGSEGV. Ctrl-Z stops both, and fg continues both. If spantap is \
                        killed, the program keeps running without it.";

/// The options of `listen`.
#[derive(Args, Debug)]
#[command(mut_arg("allow_uid", |arg| arg.requires("socket")))]
pub(super) struct Listen {
    /// The path of the socket to create; set TRACING_USDT_SOCKET to this path when you start a program
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "otlp")]
    pub(super) socket: Option<PathBuf>,
    /// The options of a socket.
    #[command(flatten)]
    pub(super) access: Access,
    /// The options that all collecting commands share.
    #[command(flatten)]
    pub(super) common: Common,
}

/// Who may send to a socket.
#[derive(Args, Debug)]
pub(super) struct Access {
    /// The permissions of the socket, in octal: 0600 for your own user, 0666 for every user
    #[arg(long, value_parser = mode, default_value = "0600")]
    pub(super) mode: u32,
    /// Accept spans from this user only; may be repeated
    ///
    /// spantap checks the user id that the kernel reports for each datagram.
    #[arg(long, value_name = "UID")]
    pub(super) allow_uid: Vec<u32>,
}

/// The options of `attach`.
#[derive(Args, Debug)]
#[command(after_help = ATTACH_HELP)]
pub(super) struct Attach {
    /// The process or the file to attach to.
    #[command(flatten)]
    pub(super) to: AttachTo,
    /// What to read there.
    #[command(flatten)]
    pub(super) tap: Tap,
    /// The options that all collecting commands share.
    #[command(flatten)]
    pub(super) common: Common,
}

/// What is read from the programs that spantap attaches to.
#[derive(Args, Debug)]
pub(super) struct Tap {
    /// The kernel activity to record, separated by commas
    ///
    /// sched includes time in the run queue and CPU throttling. syscall slows down every system call on the machine.
    #[arg(long, value_name = "PARTS", value_delimiter = ',', default_value = "sched,block,net,exec")]
    pub(super) kernel: Vec<Kernel>,
    /// Show kernel activity as a span of its own if it lasts at least this long
    ///
    /// Shorter activity is aggregated per span, except process executions, and TCP events without a duration.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "100us")]
    pub(super) min: Duration,
    /// Also show the spans of these callsites, whatever the program's log level; may be repeated
    ///
    /// For programs that use the macros of tracing_usdt::tracing. The pattern is that of spantap probes, such as
    /// 'shop__routes:*'.
    #[arg(long, value_name = "PROVIDER:NAME")]
    pub(super) callsite: Vec<Pattern>,
}

const ATTACH_HELP: &str = "Attaching requires root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and \
                           Linux 5.18 or later with BTF. The program does not have to be restarted. While nothing \
                           is attached, its probes cost next to nothing.";

/// The process or the file that `attach` attaches to.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct AttachTo {
    /// Attach to this process, until it ends
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) pid: Option<i32>,
    /// Attach to all processes of this executable or library, present and future
    ///
    /// Any path that leads to the file works, such as /proc/PID/exe, or /proc/PID/root/app/server for a file in a
    /// container. When a new build replaces the file, spantap attaches to the new build, too.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) exe: Option<PathBuf>,
}

/// The options of `record`.
#[derive(Args, Debug)]
#[command(
    override_usage = "spantap record [OPTIONS] <CAPTURE> <SOCKET>\n       \
                      spantap record [OPTIONS] <CAPTURE> -- <COMMAND>...\n       \
                      spantap record [OPTIONS] <CAPTURE> --pid <PID>\n       \
                      spantap record [OPTIONS] <CAPTURE> --exe <FILE>\n       \
                      spantap record [OPTIONS] <CAPTURE> --otlp <ADDRESS>",
    after_help = RECORD_HELP,
    mut_arg("mode", |arg| arg.conflicts_with_all(["pid", "exe", "command"]).help_heading(LISTENING)),
    mut_arg("allow_uid", |arg| arg.requires("socket").conflicts_with_all(["pid", "exe", "command"]).help_heading(LISTENING)),
    mut_arg("kernel", |arg| arg.conflicts_with_all(["socket", "command"]).help_heading(ATTACHING)),
    mut_arg("min", |arg| arg.conflicts_with_all(["socket", "command"]).help_heading(ATTACHING)),
    mut_arg("callsite", |arg| arg.conflicts_with_all(["socket", "command"]).help_heading(ATTACHING)),
)]
pub(super) struct Record {
    /// The file to record to; a capture that exists gets longer
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) capture: PathBuf,
    /// Where spans come from.
    #[command(flatten)]
    pub(super) from: RecordFrom,
    /// Begin a new file when this one would get larger, such as 500MiB; the older one is renamed to CAPTURE.1
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GiB", conflicts_with = "keep_last")]
    pub(super) max_size: u64,
    /// Begin a new file when this one is older, such as 1h [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = age, conflicts_with = "keep_last")]
    pub(super) max_age: Option<Duration>,
    /// Keep this many older files, as CAPTURE.1 to CAPTURE.N; older ones are removed when a new file begins [default: 1]
    ///
    /// With --keep-last, keep this many files beside CAPTURE, as CAPTURE-TIME. [default: 9]
    #[arg(long, value_name = "N")]
    pub(super) keep_files: Option<u32>,
    /// The flight recorder.
    #[command(flatten)]
    pub(super) flight: Flight,
    /// The options of a socket.
    #[command(flatten)]
    pub(super) access: Access,
    /// The options of attaching.
    #[command(flatten)]
    pub(super) tap: Tap,
    /// The options that all collecting commands share, except those of the view.
    #[command(flatten)]
    pub(super) forwarding: Forwarding,
    /// Where OTLP requests are taken.
    #[command(flatten)]
    pub(super) otlp: OtlpIn,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

/// The options of the flight recorder.
#[derive(Args, Debug)]
pub(super) struct Flight {
    /// Keep the spans of this time in memory, such as 5m, and write them when something happens
    ///
    /// That is SIGUSR1 to spantap, a span that --on chooses, or the death of the program: with -- COMMAND its end by a signal or
    /// with another exit code than 0, with --pid any end. The first file is CAPTURE, unless it exists; later ones have a time in
    /// their name. At an end without a trigger, nothing is written, and
    /// SIGKILL of spantap loses what is kept.
    #[arg(long, value_name = "DURATION", value_parser = kept_time, conflicts_with_all = ["spool", "keep"], help_heading = FLIGHT)]
    pub(super) keep_last: Option<Duration>,
    /// Write when a span matches this query, such as 'duration > 1s' or error; may be repeated
    ///
    /// spantap waits five seconds for the rest of its trace. The next file for a query comes after half of the time of
    /// --keep-last, at the earliest. Both are shorter if --keep-memory has no room for all of that time.
    #[arg(long, value_name = "QUERY", value_parser = query, requires = "keep_last", help_heading = FLIGHT)]
    pub(super) on: Vec<Query>,
    /// Keep at most this much, compressed; if it is full, the time is shorter, and spantap says so
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB", requires = "keep_last", help_heading = FLIGHT)]
    pub(super) keep_memory: u64,
}

/// Where `record` takes spans from. With `--otlp`, it may be nowhere else.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct RecordFrom {
    /// Listen on this socket, which is created, as spantap listen does
    #[arg(value_hint = ValueHint::FilePath, required_unless_present_any = ["pid", "exe", "command", "otlp"])]
    pub(super) socket: Option<PathBuf>,
    /// Attach to this process, until it ends
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) pid: Option<i32>,
    /// Attach to all processes of this executable or library, present and future
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) exe: Option<PathBuf>,
    /// The program to run, and its arguments
    #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

const RECORD_HELP: &str = "The file is readable while it is recorded, and after a crash, which loses about the last \
                           half second. Spans may contain personal data and secrets, so only you may read a new file; with \
                           sudo, it belongs to the user who called sudo. A file that exists keeps its permissions. When the \
                           disk is full, spantap goes on when there is room, and counts the spans that it lost. The exit \
                           code is 1 if spans could not be recorded; with -- COMMAND, it is that of the program.";

/// The options of `top`.
#[derive(Args, Debug)]
#[command(
    override_usage = "spantap top [OPTIONS] <SOCKET>\n       \
                      spantap top [OPTIONS] -- <COMMAND>...\n       \
                      spantap top [OPTIONS] --pid <PID>\n       \
                      spantap top [OPTIONS] --exe <FILE>\n       \
                      spantap top [OPTIONS] --otlp <ADDRESS>\n       \
                      spantap top [OPTIONS] <FILE>...",
    after_help = TOP_HELP,
    mut_arg("mode", |arg| arg.conflicts_with_all(["pid", "exe", "command"]).help_heading(LISTENING)),
    mut_arg("allow_uid", |arg| arg.requires("paths").conflicts_with_all(["pid", "exe", "command"]).help_heading(LISTENING)),
    mut_arg("kernel", |arg| arg.conflicts_with_all(["paths", "command"]).help_heading(ATTACHING)),
    mut_arg("min", |arg| arg.conflicts_with_all(["paths", "command"]).help_heading(ATTACHING)),
    mut_arg("callsite", |arg| arg.conflicts_with_all(["paths", "command"]).help_heading(ATTACHING)),
)]
pub(super) struct Top {
    /// Where spans come from.
    #[command(flatten)]
    pub(super) from: TopFrom,
    /// Replay the files at N times the speed with which they were recorded; otherwise they are read at once
    #[arg(long, value_name = "N", value_parser = speed, conflicts_with_all = ["pid", "exe", "command"])]
    pub(super) speed: Option<f64>,
    /// Show the files while they are recorded, beginning with the spans of the last ten seconds
    #[arg(long, short, conflicts_with_all = ["pid", "exe", "command", "speed"])]
    pub(super) follow: bool,
    /// Write what the program prints to this file; it can't be on the screen [default: it is thrown away]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "command")]
    pub(super) output: Option<PathBuf>,
    /// The options of a socket.
    #[command(flatten)]
    pub(super) access: Access,
    /// The options of attaching.
    #[command(flatten)]
    pub(super) tap: Tap,
    /// The options that all collecting commands share, except those of the view.
    #[command(flatten)]
    pub(super) forwarding: Forwarding,
    /// Where OTLP requests are taken.
    #[command(flatten)]
    pub(super) otlp: OtlpIn,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

/// Where `top` takes spans from. With `--otlp`, it may be nowhere else.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct TopFrom {
    /// Read these captures, or listen on this socket, which is created, as spantap listen does
    #[arg(value_name = "FILE|SOCKET", value_hint = ValueHint::FilePath, required_unless_present_any = ["pid", "exe", "command", "otlp"])]
    pub(super) paths: Vec<PathBuf>,
    /// Attach to this process, until it ends
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) pid: Option<i32>,
    /// Attach to all processes of this executable or library, present and future
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) exe: Option<PathBuf>,
    /// The program to run, and its arguments; q ends it with SIGTERM
    #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

const TOP_HELP: &str = "Press ? for the keys, and q to quit. A path is read as a file if it is one; otherwise it is a socket. The \
                        table counts spans as they end: an open span is not in it. It has up to 1,000 rows, for pairs of \
                        a service and a name; other spans are counted together. The memory is bounded.";

/// The options of `view`.
#[derive(Args, Debug)]
#[command(after_help = VIEW_HELP)]
pub(super) struct View {
    /// The files to read; - is the standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) files: Vec<PathBuf>,
    /// Which traces.
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Show the latest traces, the last one at the end, or the ones with the longest spans
    #[arg(long, value_name = "ORDER", default_value = "time")]
    pub(super) sort: Sort,
    /// Show at most N traces; 0 shows all [default: 20 on a terminal, else 0]
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Replay: show the traces when they came, N times as fast as they were recorded, such as 1 or 10x
    ///
    /// Pauses of more than 5 s are shortened to that.
    #[arg(long, value_name = "N", value_parser = speed, conflicts_with_all = ["sort", "limit", "follow"])]
    pub(super) speed: Option<f64>,
    /// Show the traces of the last 10 s, and then those that are added to the files, until Ctrl-C
    ///
    /// Goes on with the new file when a recording begins one. --since shows earlier traces first.
    #[arg(long, short, conflicts_with_all = ["sort", "limit", "until"])]
    pub(super) follow: bool,
    /// Draw at most N lines for the spans of a trace: its beginning, and spans with errors; 0 draws all
    #[arg(long, value_name = "N", default_value_t = 200, conflicts_with = "json")]
    pub(super) lines: usize,
    /// Show in the bars what each trace waited for, and how much of that is in each span, instead of the busy share
    #[arg(long, conflicts_with = "json")]
    pub(super) critical_path: bool,
    /// Whether findings are shown.
    #[command(flatten)]
    pub(super) findings: FindingsOption,
    /// Print a JSON object for each trace or finding, one per line; the page "Traces as JSON" of the documentation describes it
    #[arg(long)]
    pub(super) json: bool,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

/// Which traces of files are wanted.
#[derive(Args, Debug)]
pub(super) struct Selection {
    /// Only traces with a span that matches this query, such as 'duration > 100ms and service == "shop"'
    #[arg(long = "where", value_name = "QUERY", value_parser = query, long_help = selection_help())]
    pub(super) query: Option<Query>,
    /// Only this trace; may be repeated
    #[arg(long = "trace", value_name = "TRACE_ID", value_parser = trace_id)]
    pub(super) trace_ids: Vec<u128>,
    /// Only traces with a span that ended at this time or later, such as '2026-11-30 10:00', or 10min for ten minutes ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<u64>,
    /// Only traces with a span that began at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) until: Option<u64>,
}

impl Selection {
    /// The same for a search.
    pub(super) fn wanted(&self, order: Order, limit: Option<usize>) -> Wanted {
        let times_ns = (self.since.unwrap_or(0), self.until.unwrap_or(u64::MAX));
        Wanted { query: self.query.clone(), trace_ids: self.trace_ids.clone(), times_ns, order, limit }
    }
}

const VIEW_HELP: &str = "The exit code is 0 if a trace was shown, 1 if none matches, and 2 if something failed or part of \
                         what was read is damaged.";

/// The order of traces.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Sort {
    /// By time, the latest at the end
    Time,
    /// By the duration of the longest matching span, the longest first
    Duration,
}

/// The options of `graph`.
#[derive(Args, Debug)]
#[command(after_help = GRAPH_HELP)]
pub(super) struct Graph {
    /// The files to read
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) files: Vec<PathBuf>,
    /// What calls and is called: services, or spans, by service and name
    #[arg(long, value_name = "WHAT", default_value = "service")]
    pub(super) by: GraphBy,
    /// Count only calls whose called span matches this query, such as 'duration > 100ms and service == "shop"'
    #[arg(long = "where", value_name = "QUERY", value_parser = query, long_help = graph_where_help())]
    pub(super) query: Option<Query>,
    /// Show at most N edges, those with the most time in the called spans; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) limit: usize,
    /// Print the graph in the language of Graphviz
    #[arg(long, group = "format")]
    pub(super) dot: bool,
    /// Print a Mermaid flowchart, for Markdown
    #[arg(long, group = "format")]
    pub(super) mermaid: bool,
    /// Print a picture
    #[arg(long, group = "format")]
    pub(super) svg: bool,
    /// Print a JSON object; the page "Traces as JSON" of the documentation describes it
    #[arg(long, group = "format")]
    pub(super) json: bool,
    /// Write to this file instead, which is replaced as a whole
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: Option<PathBuf>,
    /// Replay: show the graph as it grew, N times as fast as the files were recorded, such as 1 or 10x
    ///
    /// Pauses of more than 5 s are shortened to that.
    #[arg(long, value_name = "N", value_parser = speed, conflicts_with = "follow")]
    pub(super) speed: Option<f64>,
    /// Show the graph anew each second in which spans are added to the files, until Ctrl-C
    ///
    /// Goes on with the new file when a recording begins one. A picture needs --output.
    #[arg(long, short)]
    pub(super) follow: bool,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

const GRAPH_HELP: &str = "(outside) calls the spans without a parent, and (unknown) the requests whose parent is in none of \
                          the files. The exit code is 0 if a call was found, 1 if none was, and 2 if something failed or part \
                          of a file is damaged.";

/// The options of `export`.
#[derive(Args, Debug)]
#[command(after_help = EXPORT_HELP)]
pub(super) struct Export {
    /// The files to read; - is the standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) files: Vec<PathBuf>,
    /// What to write, such as html=report.html; may be repeated
    ///
    /// The formats are: html, a report in one file; flamegraph, an SVG of self times; folded, the same as folded stacks, in
    /// nanoseconds; flamegraph-causes and folded-causes, with what threads did in this time; perfetto, a trace for
    /// ui.perfetto.dev; parquet, a table of the spans; otlp-json, OTLP in JSON lines, as a Collector's file exporter writes it; and
    /// clickhouse, rows for the table of a Collector in ClickHouse. - is the standard output. A file that exists is replaced.
    #[arg(long, required = true, value_name = "FORMAT=FILE")]
    pub(super) to: Vec<export::Target>,
    /// Which traces.
    #[command(flatten)]
    pub(super) selection: Selection,
}

const EXPORT_HELP: &str = "Spans may contain personal data and secrets, and so does what is written. The exit code is 0 if a trace \
                           was written, 1 if none matches, and 2 if something failed or part of what was read is damaged.";

/// The nodes of a graph.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum GraphBy {
    /// Services
    Service,
    /// Names of spans, for each service
    Span,
}

/// The options of `probes`.
#[derive(Args, Debug)]
pub(super) struct Probes {
    /// The executable or library
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "pid")]
    pub(super) file: Option<PathBuf>,
    /// List the probes of this process instead: of its executable and its libraries
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..), conflicts_with = "file")]
    pub(super) pid: Option<i32>,
    /// Show only probes with such a name, such as 'shop__routes:*' or 'shop::routes:place_*'
    #[arg(long = "probe", value_name = "PROVIDER:NAME")]
    pub(super) patterns: Vec<Pattern>,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
}

/// The options that all collecting commands share.
#[derive(Args, Debug)]
pub(super) struct Common {
    /// Where spans go.
    #[command(flatten)]
    pub(super) forwarding: Forwarding,
    /// What is shown.
    #[command(flatten)]
    pub(super) display: Display,
    /// Where OTLP requests are taken.
    #[command(flatten)]
    pub(super) otlp: OtlpIn,
}

/// Where spans go.
#[derive(Args, Debug)]
pub(super) struct Forwarding {
    /// Forward the spans, for example to otlp=http://HOST:4318; may be repeated
    ///
    /// The targets are otlp=http://HOST:4318, otlp=grpc://HOST:4317, zipkin=http://HOST:9411, jsonl=FILE and
    /// capture=FILE, which is a file as of spantap record. Plain otlp reads the address from
    /// OTEL_EXPORTER_OTLP_ENDPOINT. Every OTLP target uses the other OTEL_EXPORTER_OTLP_* variables, such as HEADERS, TIMEOUT, COMPRESSION and CERTIFICATE.
    #[arg(long, value_name = "TARGET", help_heading = FORWARDING)]
    pub(super) to: Vec<Target>,
    /// Store spans in this folder until they are forwarded
    ///
    /// The spool survives restarts of spantap and outages of the target.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "to", help_heading = FORWARDING)]
    pub(super) spool: Option<PathBuf>,
    /// The maximum size of the spool for each target, in MiB; when it is full, the oldest spans are dropped
    #[arg(long, value_name = "MIB", default_value_t = SPOOL_BYTES >> 20, requires = "spool",
        value_parser = clap::value_parser!(u64).range(1..=1 << 30), help_heading = FORWARDING)]
    pub(super) spool_size: u64,
    /// When spantap ends, wait at most this long for the remaining spans to be forwarded
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s", help_heading = FORWARDING)]
    pub(super) flush_timeout: Duration,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics
    ///
    /// ADDRESS is HOST:PORT, such as localhost:9464, or :PORT for all addresses of this machine.
    #[arg(long, value_name = "ADDRESS", help_heading = FORWARDING)]
    pub(super) metrics: Option<Address>,
    /// Which traces are forwarded.
    #[command(flatten)]
    pub(super) sampling: Keep,
}

/// What is shown.
#[derive(Args, Debug)]
pub(super) struct Display {
    /// Do not show traces
    #[arg(long, short, help_heading = DISPLAY)]
    pub(super) quiet: bool,
    /// Show at most N traces per second, plus N traces with errors; 0 shows all [default: 5 on a terminal, else 0]
    #[arg(long, value_name = "N", help_heading = DISPLAY)]
    pub(super) max_traces: Option<u32>,
    /// Show only traces that last at least this long, such as 10ms or 1.5s
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", help_heading = DISPLAY)]
    pub(super) min_duration: Duration,
    /// Show only traces with a span that matches this query, such as 'duration > 100ms and service == "shop"'
    #[arg(long = "where", value_name = "QUERY", value_parser = query, long_help = where_help(), help_heading = DISPLAY)]
    pub(super) query: Option<Query>,
    /// When to use colors
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = DISPLAY)]
    pub(super) color: Color,
}

impl Display {
    /// Shows no traces.
    pub(super) fn none(color: Color) -> Self {
        Self { quiet: true, max_traces: None, min_duration: Duration::ZERO, query: None, color }
    }
}

const FORWARDING: &str = "Forwarding options";
const DISPLAY: &str = "Display options";
const FLIGHT: &str = "Flight recorder";
const LISTENING: &str = "Options with a socket";
const ATTACHING: &str = "Options with --pid and --exe";

/// When to use colors.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always, even if the output is not a terminal
    Always,
    /// Never
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

fn query(text: &str) -> Result<Query, String> {
    text.parse().map_err(|error: QueryError| format!("{error}\n\n{}", error.pointer(text)))
}

/// The help for `--where`, with the names of the query language.
fn where_help() -> String {
    query_help("Show only traces with a span that matches this query")
}

/// The same for traces of files.
fn selection_help() -> String {
    query_help("Only traces with a span that matches this query")
}

/// The same for `graph`.
fn graph_where_help() -> String {
    query_help("Count only calls whose called span matches this query")
}

fn query_help(what: &str) -> String {
    let names = names().iter().map(|name| format!("\n  {:<18} {}", name.as_str(), name.meaning()));
    format!(
        "{what}, such as 'duration > 100ms and service == \"shop\"'\n\n\
         A query compares with == != < <= > >=, with glob, and with =~ and !~ for regular expressions; and, or, not and \
         parentheses join comparisons. Other names than these are attributes of the span or of its process:{}",
        names.collect::<String>()
    )
}

/// Reads a time, as nanoseconds since 1970.
fn time(text: &str) -> Result<u64, String> {
    let ago = || duration(text).ok().map(time_ago);
    let time = parse_time(text).or_else(ago);
    time.ok_or_else(|| {
        "write a time such as '2026-11-30 10:00' or 2026-11-30T10:00:00Z, or how long ago, such as 10min"
            .into()
    })
}

/// Reads a speed: a number above 0, which may be followed by an x.
fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix(['x', 'X']).unwrap_or(text);
    let speed = number.parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "write a number above 0, such as 1, 0.5 or 10x".into())
}

fn trace_id(text: &str) -> Result<u128, String> {
    // Some tracers have ids of 64 bits, and some programs print these without the zeros before them.
    let is_hex = matches!(text.len(), 16 | 32) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = if is_hex { u128::from_str_radix(text, 16).ok() } else { None };
    id.filter(|id| *id != 0).ok_or_else(|| "a trace id has 32 hexadecimal digits, or 16".into())
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "permissions are up to three octal digits, such as 0660".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1e-3),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ns", 1e-9),
        ("min", 60.0),
        ("s", 1.0),
        ("h", 3600.0),
        ("d", 86_400.0),
        ("m", 60.0),
    ];
    let found = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let parsed = found.and_then(|(number, seconds)| Some(number.trim().parse::<f64>().ok()? * seconds));
    let duration = parsed.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // A year is longer than any useful wait, and short enough that adding it to a time cannot overflow.
    let duration = duration.filter(|duration| *duration <= Duration::from_secs(366 * 86_400));
    duration.ok_or_else(|| "write a number and its unit, such as 250us, 10ms, 1.5s, 2min or 1h".into())
}

/// Reads a duration that is not 0.
fn age(text: &str) -> Result<Duration, String> {
    let age = duration(text)?;
    if age.is_zero() {
        Err("each frame would begin a new file; write a longer time, such as 1h".into())
    } else {
        Ok(age)
    }
}

/// Reads a duration for which spans are kept.
fn kept_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_secs(1) {
        Err("the spans of a trace take some time to arrive; write a longer time, such as 5m".into())
    } else {
        Ok(time)
    }
}

/// Reads a number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let found = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let parsed = found.and_then(|(number, bits)| number.trim().parse::<u64>().ok()?.checked_mul(1 << bits));
    let size = parsed.filter(|size| *size > 0);
    size.ok_or_else(|| "write a number and its unit, such as 500MiB or 2GiB".into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(["1KiB", "500 MiB", "2GiB"].map(size), [Ok(1 << 10), Ok(500 << 20), Ok(2 << 30)]);
        for text in ["", "10", "GiB", "0MiB", "-1KiB", "1.5GiB", "1GB", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn record_takes_one_source() {
        let parse = |args: &str| {
            let args = args.split(' ').filter(|arg| !arg.is_empty());
            Cli::try_parse_from(["spantap", "record", "c.spans"].into_iter().chain(args)).map(drop)
        };
        let good = [
            "trace.sock",
            "-- ./my-service --port 80",
            "--pid 7",
            "--exe ./a",
            "trace.sock --mode 0666 --to jsonl=a",
            "--pid 7 --kernel none",
            "trace.sock --max-size 1MiB --max-age 1h --keep-files 0",
            "trace.sock --max-age 5m",
            "trace.sock --keep-last 5m --on error --on duration>1s --keep-files 3 --keep-memory 1GiB --to jsonl=a",
            "--keep-last 1h -- ./a --on x",
        ];
        for args in good {
            assert!(parse(args).is_ok(), "{args}: {:?}", parse(args));
        }
        let bad = [
            "",
            "trace.sock --pid 7",
            "--pid 7 --exe ./a",
            "trace.sock -- a",
            "trace.sock --kernel none",
            "--pid 7 --mode 0600",
            "--kernel none -- a",
            "trace.sock --max-age 0s",
            "trace.sock --max-age 1",
            "trace.sock --on error",
            "trace.sock --keep-memory 1GiB",
            "trace.sock --keep-last 0s",
            "trace.sock --keep-last 5m --on duration>1",
            "trace.sock --keep-last 5m --max-age 1h",
            "trace.sock --keep-last 5m --max-size 1GiB",
            "trace.sock --keep-last 5m --to jsonl=a --spool b",
        ];
        for args in bad {
            assert!(parse(args).is_err(), "{args}");
        }
    }

    #[test]
    fn speeds_are_above_0() {
        assert_eq!(["1", "10x", "0.5X"].map(speed), [Ok(1.0), Ok(10.0), Ok(0.5)]);
        for text in ["", "x", "0", "-1", "inf", "NaN", "1e999", "10xx", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_replay_has_no_other_order_than_time() {
        let parse =
            |args: &str| Cli::try_parse_from(["spantap", "view", "a"].into_iter().chain(args.split(' ')));
        for args in ["--speed 2x --json --where error", "-f --since 1h", "--speed 1 --since 1h --until 1min"]
        {
            assert!(parse(args).is_ok(), "{args}: {:?}", parse(args).map(drop));
        }
        for args in
            ["--speed 1 --limit 2", "--speed 1 --sort time", "--speed 1 -f", "-f --limit 2", "-f --until 1h"]
        {
            assert!(parse(args).is_err(), "{args}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let cases = [
            ("250us", 250_000),
            ("10ms", 10_000_000),
            ("1.5s", 1_500_000_000),
            ("2min", 120_000_000_000),
            ("5m", 300_000_000_000),
            ("1h", 3_600_000_000_000),
        ];
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
    fn options_after_the_program_belong_to_the_program() {
        let cli =
            Cli::try_parse_from(["spantap", "run", "--quiet", "--", "./service", "--quiet", "-v"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("parsed as another command than run") };
        assert!(run.common.display.quiet);
        assert_eq!(run.command, ["./service", "--quiet", "-v"]);
    }
}
