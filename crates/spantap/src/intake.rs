//! Where a source puts what it has: datagrams, which are decoded here, and spans that it made itself.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

use crate::attributes;
use crate::decode::{Decoder, Faults, Found, LOSSES};
use crate::pipeline::{Batch, Pending, Pipeline};
#[cfg(feature = "ebpf")]
use crate::process::Process;
use crate::process::Sender;
use crate::sequence::{Before, Progress, Senders, Sequence};
use crate::source::Datagram;

/// While spans come without a pause, so many bytes of them are put together to chunks. With one more
/// datagram, of 256 KiB at most, a chunk stays far below the 4 MiB that a gRPC server takes by default.
const BYTES_AT_ONCE: usize = 512 * 1024;

/// What a datagram counts at least: many that hold nothing may not keep back what came with them.
const SMALLEST: usize = 1024;

/// The way into a [`Pipeline`].
pub struct Intake<'a> {
    pipeline: &'a Pipeline,
    decoder: Decoder,
    /// How far each sender has come.
    senders: Senders,
    pending: Vec<Pending>,
    bytes: usize,
    to_pass_on: SyncSender<Batch>,
    /// Its other end is gone: it has panicked, and so will the scope of its thread.
    is_closed: bool,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, to_pass_on: SyncSender<Batch>) -> Self {
        Self {
            pipeline,
            decoder: Decoder::default(),
            senders: pipeline.sinks.senders(),
            pending: Vec::new(),
            bytes: 0,
            to_pass_on,
            is_closed: false,
        }
    }

    /// Takes a datagram of one of `allowed_uids`, or of anybody if there are none.
    pub(crate) fn take(&mut self, datagram: &Datagram<'_>, allowed_uids: &[u32]) {
        if !self.may_send(datagram, allowed_uids) {
            return;
        }
        for pending in self.decode(datagram) {
            self.add(pending);
        }
        self.grow(datagram.bytes.len().max(SMALLEST));
    }

    /// Takes what a probe had to say of a span, to which `complete` may add. Gives back whose it is.
    #[cfg(feature = "ebpf")]
    pub(crate) fn take_probed(
        &mut self,
        datagram: &Datagram<'_>,
        mut complete: impl FnMut(&mut Span),
    ) -> Option<Arc<Process>> {
        self.pipeline.figures.probed(datagram.sender, datagram.bytes.len());
        let mut of = None;
        for mut pending in self.decode(datagram) {
            pending.scopes.iter_mut().flat_map(|scope| &mut scope.spans).for_each(&mut complete);
            of = Some(Arc::clone(&pending.process));
            self.add(pending);
        }
        self.grow(datagram.bytes.len().max(SMALLEST));
        of
    }

    /// Takes spans that the source made itself, of some `bytes`.
    #[cfg(feature = "ebpf")]
    pub(crate) fn take_made(&mut self, process: &Arc<Process>, spans: ScopeSpans, bytes: usize) {
        self.add(Pending { process: Arc::clone(process), scopes: vec![spans], progress: Vec::new() });
        self.grow(bytes);
    }

    /// Tells the user.
    #[cfg(feature = "ebpf")]
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.pipeline.notices.say(line);
    }

    /// The process that calls itself `service`.
    #[cfg(feature = "ebpf")]
    pub(crate) fn process(&mut self, sender: Sender, service: &str) -> Arc<Process> {
        self.decoder.process(sender, service)
    }

    /// Passes on what was taken in. Whether anybody is there who takes it.
    pub(crate) fn pass_on(&mut self) -> bool {
        let batch =
            Batch { pending: std::mem::take(&mut self.pending), bytes: std::mem::take(&mut self.bytes) };
        self.is_closed |= !batch.pending.is_empty() && self.to_pass_on.send(batch).is_err();
        !self.is_closed
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= BYTES_AT_ONCE {
            self.pass_on();
        }
    }

    fn may_send(&self, datagram: &Datagram<'_>, allowed_uids: &[u32]) -> bool {
        let (sender, figures) = (datagram.sender, &self.pipeline.figures);
        figures.datagram(sender, datagram.bytes.len());
        let allowed = allowed_uids.is_empty() || allowed_uids.contains(&sender.uid);
        if !allowed && figures.refused(sender) {
            self.pipeline.notices.say(format!("refused: {sender} may not send (--allow-uid)"));
        }
        allowed
    }

    /// Its spans, by process; what is to say of them is told.
    fn decode(&mut self, datagram: &Datagram<'_>) -> Vec<Pending> {
        let sender = datagram.sender;
        let decoded = self.decoder.decode(datagram.bytes, sender, now_ns());
        self.tell_faults(sender, &decoded.faults, datagram.cut);
        let mut lost = 0_u64;
        for (process, scopes) in &decoded.processes {
            let spans: usize = scopes.iter().map(|scope| scope.spans.len()).sum();
            self.pipeline.figures.spans(sender, &process.service, spans as u64);
            let losses = scopes.iter().flat_map(|scope| &scope.spans).filter(|span| span.name == LOSSES);
            losses.for_each(|span| lost = lost.saturating_add(self.told_losses(sender, span)));
        }
        let mut pending: Vec<Pending> = decoded
            .processes
            .into_iter()
            .map(|(process, scopes)| Pending { process, scopes, progress: Vec::new() })
            .collect();
        let progress = decoded.sequence.map(|sequence| self.progress(sender, sequence, lost));
        // With the last, because then all of the datagram has been passed on.
        if let Some(last) = pending.last_mut() {
            last.progress.extend(progress);
        }
        pending
    }

    /// Counts what should have come before a datagram that reports so many spans as lost.
    fn progress(&mut self, sender: Sender, sequence: Sequence, lost: u64) -> Progress {
        let (before, progress) = self.senders.came(sequence, lost);
        let Before { missing, unknown, unreported, lost_before, is_first } = before;
        if let Some(line) = is_first.then(|| self.pipeline.programs.look_at(sender)).flatten() {
            self.pipeline.notices.say(line);
        }
        if missing > 0 && self.pipeline.figures.missing(sender, missing) {
            self.pipeline.notices.say(format!(
                "{missing} spans that {sender} sent never came: they waited in the socket, or had been read and not been \
                 spooled, when an earlier spantap ended; or another program took them (more of these are only counted)"
            ));
        }
        for (reason, spans) in [("report_lost", unreported), ("before_this_start", lost_before)] {
            if spans > 0 {
                self.pipeline.figures.lost(sender, reason, spans);
            }
        }
        if unknown > 0 {
            self.pipeline.figures.sent_before(sender, unknown);
        }
        progress
    }

    /// Puts spans to those of the same process and scope.
    fn add(&mut self, new: Pending) {
        let is_same = |known: &&mut Pending| Arc::ptr_eq(&known.process, &new.process);
        let Some(known) = self.pending.iter_mut().rev().find(is_same) else {
            self.pending.push(new);
            return;
        };
        for scope in new.scopes {
            let is_same =
                |known: &&mut ScopeSpans| known.scope == scope.scope && known.schema_url == scope.schema_url;
            match known.scopes.iter_mut().rev().find(is_same) {
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

    fn tell_faults(&self, sender: Sender, faults: &Faults, cut: bool) {
        for (found, count) in faults.iter() {
            if self.pipeline.figures.fault(sender, found, count) {
                let verdict = if found.fault.refuses() { "refused" } else { "taken, but odd" };
                let why = if cut { "; it was larger than the 256 KiB that are read" } else { "" };
                let Found { fault, detail } = found;
                self.pipeline.notices.say(format!(
                    "{verdict}: {fault} from {sender}: {detail}{why} (more of these are only counted)"
                ));
            }
        }
    }

    /// Counts the losses that a span reports. How many there are.
    fn told_losses(&self, sender: Sender, span: &Span) -> u64 {
        let mut lost = 0_u64;
        for attribute in &span.attributes {
            let reason = attribute.key.strip_prefix(LOSSES).and_then(|rest| rest.strip_prefix('.'));
            let spans = attributes::value(attribute).and_then(attributes::count);
            if let (Some(reason), Some(spans)) = (reason, spans) {
                self.pipeline.figures.lost(sender, reason, spans);
                lost = lost.saturating_add(spans);
            }
        }
        lost
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
