//! The threads in the middle: one takes datagrams and decodes them, the other encodes the spans for the
//! sinks and passes them on to the view.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

use crate::attributes;
use crate::chunk::Chunk;
use crate::decode::{Decoder, Faults, Found, LOSSES};
use crate::figures::Figures;
use crate::notices::Notices;
use crate::process::{Process, Sender};
use crate::sink::Sinks;
use crate::source::{Datagram, Receiver};
use crate::terminal::Feeder;
use crate::trace::TraceSpan;

/// While datagrams come without a pause, so much of them is put together to chunks. With one more
/// datagram, of 256 KiB at most, a chunk stays far below the 4 MiB that a gRPC server takes by default.
const BYTES_AT_ONCE: usize = 512 * 1024;

/// What a datagram counts at least: many that hold nothing may not keep back what came with them.
const SMALLEST: usize = 1024;

/// So many batches may be decoded and not passed on yet.
const AHEAD: usize = 2;

/// Where spans go, and who may send them.
pub struct Pipeline {
    /// Users whose datagrams are taken; all, if there are none.
    pub allowed_uids: Vec<u32>,
    /// What is counted.
    pub figures: Arc<Figures>,
    /// For the first fault of a kind.
    pub notices: Notices,
    /// All of them.
    pub sinks: Arc<Sinks>,
    /// Where the traces are shown, if they are. It may fall behind, and then misses spans.
    pub view: Option<Feeder>,
}

/// Spans that were decoded, by process.
type Pending = Vec<(Arc<Process>, Vec<ScopeSpans>)>;

/// What came in so many bytes.
struct Batch {
    pending: Pending,
    bytes: usize,
}

impl Pipeline {
    /// Runs until the receiver ends, and all that it received is passed on.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn run(&self, receiver: &Receiver) -> Result<()> {
        thread::scope(|scope| {
            let (to_pass_on, decoded) = sync_channel::<Batch>(AHEAD);
            let pass_on = move || decoded.into_iter().for_each(|batch| self.pass_on(batch));
            let thread = thread::Builder::new().name("encode".into()).spawn_scoped(scope, pass_on);
            thread.context("can't start the thread `encode`")?;
            self.decode(receiver, &to_pass_on);
            Ok(())
        })
    }

    fn decode(&self, receiver: &Receiver, to_pass_on: &SyncSender<Batch>) {
        // Where it is gone it has panicked, and so will the scope.
        let pass_on =
            |pending: Pending, bytes| pending.is_empty() || to_pass_on.send(Batch { pending, bytes }).is_ok();
        let nobody_wants_spans = self.sinks.is_empty() && self.view.is_none();
        let mut decoder = Decoder::default();
        while let Some(mut batch) = receiver.next() {
            let mut pending = Pending::new();
            let mut bytes = 0;
            loop {
                for datagram in batch.iter() {
                    if !self.may_send(&datagram) {
                        continue;
                    }
                    if !(nobody_wants_spans && self.count(&mut decoder, &datagram)) {
                        self.take(&mut decoder, &datagram, &mut pending);
                    }
                    bytes += datagram.bytes.len().max(SMALLEST);
                    if bytes >= BYTES_AT_ONCE {
                        if !pass_on(std::mem::take(&mut pending), bytes) {
                            return;
                        }
                        bytes = 0;
                    }
                }
                receiver.recycle(batch);
                batch = match receiver.next_if_there() {
                    Some(next) => next,
                    None => break,
                };
            }
            if !pass_on(pending, bytes) {
                return;
            }
        }
    }

    fn may_send(&self, datagram: &Datagram<'_>) -> bool {
        let sender = datagram.sender;
        self.figures.datagram(sender, datagram.bytes.len());
        let allowed = self.allowed_uids.is_empty() || self.allowed_uids.contains(&sender.uid);
        if !allowed && self.figures.refused(sender) {
            self.notices.say(format!("refused: {sender} may not send (--allow-uid)"));
        }
        allowed
    }

    /// Whether it was counted, which is enough.
    fn count(&self, decoder: &mut Decoder, datagram: &Datagram<'_>) -> bool {
        let counted = decoder.count(datagram.bytes, datagram.sender, now_ns());
        for (process, spans) in counted.iter().flatten() {
            self.figures.spans(datagram.sender, &process.service, *spans);
        }
        counted.is_some()
    }

    fn take(&self, decoder: &mut Decoder, datagram: &Datagram<'_>, pending: &mut Pending) {
        let sender = datagram.sender;
        let decoded = decoder.decode(datagram.bytes, sender, now_ns());
        self.tell_faults(sender, &decoded.faults, datagram.cut);
        for (process, scopes) in decoded.processes {
            let spans: usize = scopes.iter().map(|scope| scope.spans.len()).sum();
            self.figures.spans(sender, &process.service, spans as u64);
            let losses = scopes.iter().flat_map(|scope| &scope.spans).filter(|span| span.name == LOSSES);
            losses.for_each(|span| self.told_losses(sender, span));
            add(pending, process, scopes);
        }
    }

    fn tell_faults(&self, sender: Sender, faults: &Faults, cut: bool) {
        for (found, count) in faults.iter() {
            if self.figures.fault(sender, found, count) {
                let verdict = if found.fault.refuses() { "refused" } else { "taken, but odd" };
                let why = if cut { "; it was larger than the 256 KiB that are read" } else { "" };
                let Found { fault, detail } = found;
                self.notices.say(format!(
                    "{verdict}: {fault} from {sender}: {detail}{why} (more of these are only counted)"
                ));
            }
        }
    }

    fn told_losses(&self, sender: Sender, span: &Span) {
        for attribute in &span.attributes {
            let reason = attribute.key.strip_prefix(LOSSES).and_then(|rest| rest.strip_prefix('.'));
            let spans = attributes::value(attribute).and_then(attributes::count);
            if let (Some(reason), Some(spans)) = (reason, spans) {
                self.figures.lost(sender, reason, spans);
            }
        }
    }

    fn pass_on(&self, Batch { pending, bytes }: Batch) {
        let mut to_view = Vec::new();
        for (process, scopes) in pending {
            if !self.sinks.is_empty() {
                self.sinks.push(&Chunk::encode(&process, &scopes));
            }
            if self.view.is_some() {
                let spans = scopes.into_iter().flat_map(|scope| scope.spans);
                let spans = spans.filter(|span| span.name != LOSSES);
                to_view.extend(spans.map(|span| TraceSpan { process: Arc::clone(&process), span }));
            }
        }
        let Some(view) = self.view.as_ref().filter(|_| !to_view.is_empty()) else { return };
        let spans = to_view.len() as u64;
        if !view.offer(to_view, bytes) {
            self.figures.spans_not_shown.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

/// Puts spans to those of the same process and scope.
fn add(pending: &mut Pending, process: Arc<Process>, scopes: Vec<ScopeSpans>) {
    let Some((_, known)) = pending.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, &process)) else {
        pending.push((process, scopes));
        return;
    };
    for scope in scopes {
        match known.last_mut() {
            Some(last) if last.scope == scope.scope && last.schema_url == scope.schema_url => {
                last.spans.extend(scope.spans);
            }
            _ => known.push(scope),
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
