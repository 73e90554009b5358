//! An array of Zipkin's spans.

use super::super::scan::Scan;
use super::super::skip;
use super::super::zipkin::{EndpointMember, SpanMember};
use super::{Row, Said, is_short, is_usual_time, pass_over, usual_name, usual_parent};

pub(super) fn rows<'a>(scan: &mut Scan<'a>, now_ns: u64) -> Option<Vec<Row<'a>>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    scan.elements(|scan| {
        let said = Said::Service(span(scan, now_ns)?);
        match rows.last_mut().filter(|last| last.said == said) {
            Some(row) => row.spans += 1,
            None => rows.push(Row { said, spans: 1 }),
        }
        Some(())
    })?;
    Some(rows)
}

/// Its service.
fn span<'a>(scan: &mut Scan<'a>, now_ns: u64) -> Option<&'a [u8]> {
    let (mut has_trace_id, mut has_id) = (false, false);
    let (mut timestamp, mut duration) = (None, None);
    let (mut service, mut has_annotations) = (&b""[..], false);
    scan.members(|scan, member| {
        match member {
            SpanMember::TraceId => {
                scan.attempt(Scan::id::<32>).or_else(|| scan.id::<16>())?;
                has_trace_id = true;
            }
            SpanMember::Id => {
                scan.id::<16>()?;
                has_id = true;
            }
            SpanMember::ParentId => usual_parent(scan)?,
            SpanMember::Timestamp => timestamp = Some(scan.integer()?),
            SpanMember::Duration => duration = Some(scan.integer()?),
            SpanMember::Name => usual_name(scan)?,
            SpanMember::LocalEndpoint => service = endpoint(scan)?,
            SpanMember::Tags => is_short(scan.found(tags)?)?,
            SpanMember::Annotations => {
                pass_over(scan)?;
                has_annotations = true;
            }
            // Of version 1, like annotations that name the service.
            SpanMember::BinaryAnnotations => return None,
            SpanMember::Kind | SpanMember::RemoteEndpoint | SpanMember::Shared => pass_over(scan)?,
        }
        Some(())
    })?;
    if service.is_empty() && has_annotations {
        return None;
    }
    let start_ns = timestamp?.checked_mul(1000)?;
    let end_ns = start_ns.checked_add(duration?.checked_mul(1000)?)?;
    (has_trace_id && has_id && is_usual_time(start_ns, end_ns, now_ns)).then_some(service)
}

/// Its service.
fn endpoint<'a>(scan: &mut Scan<'a>) -> Option<&'a [u8]> {
    let mut service = &b""[..];
    scan.members(|scan, member| {
        match member {
            EndpointMember::ServiceName => service = scan.text()?,
            EndpointMember::Ipv4 | EndpointMember::Ipv6 => scan.any_text()?,
            EndpointMember::Port => drop(u16::try_from(scan.integer()?).ok()?),
        }
        Some(())
    })?;
    Some(service)
}

/// Where tags end. Most of a span are its tags, and most tags are texts with no white space between them.
fn tags(bytes: &[u8], at: usize) -> Option<usize> {
    usual_tags(bytes, at).or_else(|| skip::value(bytes, at))
}

fn usual_tags(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = skip::literal(bytes, at, b"{\"")?;
    loop {
        at = skip::string(bytes, at)?;
        at = skip::literal(bytes, at, b":\"")?;
        at = skip::string(bytes, at)?;
        match bytes.get(at)? {
            b'}' => return Some(at + 1),
            _ => at = skip::literal(bytes, at, b",\"")?,
        }
    }
}
