//! Reads the member `tracingUsdt`, in which this project's layer numbers its datagrams.

use super::fault::Found;
use super::json::{Json, members};
use crate::process::Sequence;

members! { SequenceMember {
    Sender = "sender",
    SentBefore = "sentBefore",
    Spans = "spans",
    LostBefore = "lostBefore",
} }

/// Reads the member. A value that can't be read is ignored: it was written by another program.
pub(super) fn take(json: &mut Json<'_>) -> Result<(), Found> {
    json.sequence = json.attempt(read)?.ok().flatten();
    Ok(())
}

fn read(json: &mut Json<'_>) -> Result<Option<Sequence>, Found> {
    let (mut sender, mut sent_before, mut spans) = (None, None, None);
    let mut lost_before = 0;
    json.members(|json, member| {
        match member {
            SequenceMember::Sender => sender = u64::from_str_radix(&json.text()?, 16).ok(),
            SequenceMember::SentBefore => sent_before = Some(json.integer()?),
            SequenceMember::Spans => spans = Some(json.integer()?),
            SequenceMember::LostBefore => lost_before = json.integer()?,
        }
        Ok(())
    })?;
    let whole = (sender.zip(sent_before)).zip(spans);
    Ok(whole.map(|((sender, sent_before), spans)| Sequence { sender, sent_before, spans, lost_before }))
}
