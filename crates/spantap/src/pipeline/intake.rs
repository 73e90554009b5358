//! Takes what a source has: datagrams and OTLP requests, which are decoded here, and spans that the source made itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

use super::batch::{Batch, Pending, Reply};
use super::datagram::Datagram;
use super::request::{Request, Taken};
use crate::decode::{Decoded, Decoder, Faults, Found, losses};
use crate::open::OpenSpans;
#[cfg(feature = "ebpf")]
use crate::process::Process;
use crate::process::{Before, Programs, Progress, Sender, Senders, SentBy, Sequence};
use crate::span::Summary;
use crate::stats::Stats;
use crate::text::Notices;

/// The bytes after which decoded spans are passed on as a batch, while more arrive. With one more datagram, of at
/// most 256 KiB, a chunk stays below the 4 MiB that a gRPC server accepts by default, as a rule. A sink splits a larger one.
const BATCH_BYTES: usize = 512 * 1024;

/// The least that a datagram counts, so that empty datagrams can't hold back spans that came before them.
const MIN_DATAGRAM_BYTES: usize = 1024;

/// How many scopes of a process are compared with a new one. Beyond that, a scope may occur twice, which is valid.
const SCOPES_COMPARED: usize = 64;

/// The input of a [`Pipeline`](super::Pipeline).
pub struct Intake<'a> {
    stats: &'a Stats,
    notices: &'a Notices,
    programs: &'a Programs,
    open: &'a OpenSpans,
    decoder: Decoder,
    /// The progress of each sender.
    senders: Senders,
    pending: Vec<Pending>,
    /// The index in `pending` by the address of the process: a request may have any number of processes.
    by_process: HashMap<usize, usize>,
    bytes: usize,
    /// Called when what was taken is with the sinks.
    replies: Vec<Reply>,
    to_pass_on: SyncSender<Batch>,
    /// The receiving end is gone: its thread has panicked, and the panic continues when the thread's scope ends.
    is_closed: bool,
}

impl<'a> Intake<'a> {
    /// `senders` is the progress of earlier runs.
    pub(super) fn new(
        stats: &'a Stats,
        notices: &'a Notices,
        programs: &'a Programs,
        open: &'a OpenSpans,
        senders: Senders,
        to_pass_on: SyncSender<Batch>,
    ) -> Self {
        Self {
            stats,
            notices,
            programs,
            open,
            decoder: Decoder::default(),
            senders,
            pending: Vec::new(),
            by_process: HashMap::new(),
            bytes: 0,
            replies: Vec::new(),
            to_pass_on,
            is_closed: false,
        }
    }

    /// The same, for OTLP requests from the network.
    pub(super) fn of_requests(self) -> Self {
        Self { decoder: Decoder::of_requests(), ..self }
    }

    /// Takes an OTLP request from the network. Its spans are passed on by [`flush`](Self::flush), at the latest.
    ///
    /// The numbers of datagrams and the reports of open spans, which the layer writes, mean nothing here: the client may be
    /// anybody.
    ///
    /// # Errors
    ///
    /// Why the request is refused as a whole.
    pub(crate) fn take_request(&mut self, request: Request<'_>) -> Result<Taken, Found> {
        let sent_by = SentBy::from(request.from);
        self.stats.request(sent_by, request.bytes.len());
        let decoded = match self.decoder.decode_request(request.bytes, request.encoding, now_ns()) {
            Ok(decoded) => decoded,
            Err(found) => {
                self.report_fault(sent_by, &found, 1, false);
                return Err(found);
            }
        };
        self.report_faults(sent_by, &decoded.faults, false);
        let taken = Taken::of(&decoded);
        _ = self.count(sent_by, &decoded);
        let pending = pending(decoded);
        // Passed on as it grows, because a request may be many times a batch.
        let bytes = request.bytes.len() / pending.len().max(1);
        for pending in pending {
            self.add(pending);
            self.grow(bytes);
        }
        self.grow(MIN_DATAGRAM_BYTES);
        Ok(taken)
    }

    /// Has `reply` called when everything that was taken before is with the sinks, or dropped if that can't be.
    pub(crate) fn reply(&mut self, reply: impl FnOnce() + Send + 'static) {
        self.replies.push(Box::new(reply));
    }

    /// Takes a datagram, if its user is among `allowed_uids` or that is empty.
    pub(crate) fn take(&mut self, datagram: &Datagram<'_>, allowed_uids: &[u32]) {
        if !self.may_send(datagram, allowed_uids) {
            return;
        }
        let mut decoded = self.decode(datagram);
        self.note_open(datagram.sender, &mut decoded);
        let lost = self.count(datagram.sender.into(), &decoded);
        let progress = decoded.sequence.map(|sequence| self.progress(datagram.sender, sequence, lost));
        let mut pending = pending(decoded);
        // In the last one: only then has the whole datagram been passed on.
        if let Some(last) = pending.last_mut() {
            last.progress.extend(progress);
        }
        pending.into_iter().for_each(|pending| self.add(pending));
        self.grow(datagram.bytes.len().max(MIN_DATAGRAM_BYTES));
    }

    /// Takes a batch from a probe, whose spans `complete` may change or remove. Returns the process.
    #[cfg(feature = "ebpf")]
    pub(crate) fn take_batch(
        &mut self,
        datagram: &Datagram<'_>,
        complete: impl FnOnce(&mut Decoded),
    ) -> Option<Arc<Process>> {
        let sender = datagram.sender;
        self.stats.probed(sender, datagram.bytes.len());
        let mut decoded = self.decode(datagram);
        self.note_open(sender, &mut decoded);
        complete(&mut decoded);
        // The programs in the kernel count the batches, and the reports of losses, for which they have no room. By the
        // sender's numbers these would be counted twice. (Linux before 6.0 may skip a program now and then. What the batch
        // had is then not counted.)
        _ = self.count(sender.into(), &decoded);
        let mut process = None;
        let mut bytes = datagram.bytes.len();
        for pending in pending(decoded) {
            process = Some(Arc::clone(&pending.process));
            bytes = bytes.max(pending.encoded.bytes.len());
            self.add(pending);
        }
        self.grow(bytes.max(MIN_DATAGRAM_BYTES));
        process
    }

    /// Takes spans that the source made itself; `bytes` is their estimated size.
    #[cfg(feature = "ebpf")]
    pub(crate) fn take_made(&mut self, process: &Arc<Process>, spans: ScopeSpans, bytes: usize) {
        self.add(Pending { scopes: vec![spans], ..Pending::of(process) });
        self.grow(bytes);
    }

    /// Shows a line to the user.
    #[cfg(feature = "ebpf")]
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.notices.say(line);
    }

    /// The process of a sender with the name `service`.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process(&mut self, sender: Sender, service: &str) -> Arc<Process> {
        self.decoder.process(sender, service)
    }

    /// The process of a sender with this resource, in protobuf.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process_of(&mut self, sender: Sender, resource: &[u8]) -> Arc<Process> {
        self.decoder.process_of(sender, resource)
    }

    /// Takes the report of open spans out of a datagram, or notes the spans that have ended.
    fn note_open(&self, sender: Sender, decoded: &mut Decoded) {
        self.open.set_caught_up(false);
        match decoded.open.take() {
            Some((process, report)) => {
                self.open.report(&process, decoded.sequence.map_or(0, |sequence| sequence.sender), report);
            }
            None if self.open.is_empty() => {}
            None => {
                let encoded = decoded.encoded.iter().flat_map(|(_, scopes)| scopes.iter());
                let typed = decoded.processes.iter().flat_map(|(_, scopes)| scopes);
                let typed = typed.flat_map(|scope| &scope.spans).filter_map(Summary::of);
                self.open.closed(
                    sender,
                    encoded.map(|(span, _)| span.span_id).chain(typed.map(|span| span.span_id)),
                );
            }
        }
    }

    /// Passes on what was taken. To be called when the source has nothing more for now. Returns false if the receiving end is
    /// gone.
    pub(crate) fn pass_on(&mut self) -> bool {
        self.open.set_caught_up(true);
        self.flush()
    }

    /// Passes on what was taken. Returns false if the receiving end is gone.
    pub(crate) fn flush(&mut self) -> bool {
        self.by_process.clear();
        let batch = Batch {
            pending: std::mem::take(&mut self.pending),
            bytes: std::mem::take(&mut self.bytes),
            replies: std::mem::take(&mut self.replies),
        };
        let is_empty = batch.pending.is_empty() && batch.replies.is_empty();
        self.is_closed |= !is_empty && self.to_pass_on.send(batch).is_err();
        !self.is_closed
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    fn may_send(&self, datagram: &Datagram<'_>, allowed_uids: &[u32]) -> bool {
        let (sender, stats) = (datagram.sender, self.stats);
        stats.datagram(sender, datagram.bytes.len());
        let allowed = allowed_uids.is_empty() || allowed_uids.contains(&sender.uid);
        if !allowed && stats.refused(sender) {
            self.notices.say(format!("refused: {sender} may not send (--allow-uid)"));
        }
        allowed
    }

    /// Decodes a datagram, and reports its faults.
    fn decode(&mut self, datagram: &Datagram<'_>) -> Decoded {
        let decoded = self.decoder.decode(datagram.bytes, datagram.sender, now_ns());
        self.report_faults(datagram.sender.into(), &decoded.faults, datagram.cut);
        decoded
    }

    /// Counts the spans of a datagram or a request. Returns how many others it reports as lost.
    fn count(&self, sender: SentBy, decoded: &Decoded) -> u64 {
        let mut lost = 0_u64;
        for (process, scopes) in &decoded.processes {
            let spans: usize = scopes.iter().map(|scope| scope.spans.len()).sum();
            self.stats.spans(sender, &process.service, spans as u64);
            for (reason, spans) in scopes.iter().flat_map(|scope| &scope.spans).flat_map(losses) {
                self.stats.lost(sender, reason, spans);
                lost = lost.saturating_add(spans);
            }
        }
        for (process, scopes) in &decoded.encoded {
            self.stats.spans(sender, &process.service, scopes.spans.len() as u64);
        }
        lost
    }

    /// Counts the spans that should have come before this datagram, which itself reports `lost` spans as lost.
    fn progress(&mut self, sender: Sender, sequence: Sequence, lost: u64) -> Progress {
        let (before, progress) = self.senders.record(sequence, lost);
        let Before { missing, unknown, unreported, lost_before, is_first } = before;
        if let Some(line) = is_first.then(|| self.programs.check(sender)).flatten() {
            self.notices.say(line);
        }
        if missing > 0 && self.stats.missing(sender, missing) {
            self.notices.say(format!(
                "{missing} spans that {sender} sent never arrived: they were in the socket, or read and not yet in \
                 the spool, when an earlier spantap ended; or another program received them (more of these are only \
                 counted)"
            ));
        }
        for (reason, spans) in [("report_lost", unreported), ("before_this_start", lost_before)] {
            if spans > 0 {
                self.stats.lost(sender, reason, spans);
            }
        }
        if unknown > 0 {
            self.stats.sent_before(sender, unknown);
        }
        progress
    }

    /// Adds spans to those of the same process and scope.
    fn add(&mut self, new: Pending) {
        let process = Arc::as_ptr(&new.process).addr();
        let known = self.by_process.get(&process).and_then(|index| self.pending.get_mut(*index));
        let Some(known) = known else {
            self.by_process.insert(process, self.pending.len());
            self.pending.push(new);
            return;
        };
        known.encoded.append(new.encoded);
        for scope in new.scopes {
            let is_same =
                |known: &&mut ScopeSpans| known.scope == scope.scope && known.schema_url == scope.schema_url;
            match known.scopes.iter_mut().rev().take(SCOPES_COMPARED).find(is_same) {
                Some(same) => same.spans.extend(scope.spans),
                None => known.scopes.push(scope),
            }
        }
        for progress in new.progress {
            match known.progress.iter_mut().find(|known| known.sender == progress.sender) {
                Some(known) => *known = progress,
                None => known.progress.push(progress),
            }
        }
    }

    fn report_faults(&self, sender: SentBy, faults: &Faults, cut: bool) {
        faults.iter().for_each(|(found, count)| self.report_fault(sender, found, count, cut));
    }

    fn report_fault(&self, sender: SentBy, found: &Found, count: u64, cut: bool) {
        if self.stats.fault(sender, found, count) {
            let verdict = if found.fault.refuses() { "refused" } else { "accepted, but odd" };
            let why = if cut { "; it was cut off at 256 KiB" } else { "" };
            let Found { fault, detail } = found;
            self.notices.say(format!(
                "{verdict}: {fault} from {sender}: {detail}{why} (more of these are only counted)"
            ));
        }
    }
}

/// The spans of a datagram by process.
fn pending(decoded: Decoded) -> Vec<Pending> {
    let encoded = decoded.encoded.into_iter();
    let encoded = encoded.map(|(process, encoded)| Pending { encoded, ..Pending::of(&process) });
    let typed = decoded.processes.into_iter();
    let typed = typed.map(|(process, scopes)| Pending { scopes, ..Pending::of(&process) });
    encoded.chain(typed).collect()
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
