//! A request of OTLP.

use super::super::otlp::{RequestMember, ResourceMember, ScopeMember, SpanMember, is_usual_scope};
use super::super::scan::Scan;
use super::super::skip;
use super::{Row, Said, is_short, is_usual_time, pass_over, usual_name, usual_parent};

pub(super) fn rows<'a>(scan: &mut Scan<'a>, now_ns: u64) -> Option<Vec<Row<'a>>> {
    let mut rows = Vec::new();
    scan.members(|scan, RequestMember::ResourceSpans| {
        scan.elements(|scan| {
            rows.push(resource_spans(scan, now_ns)?);
            Some(())
        })
    })?;
    Some(rows)
}

fn resource_spans<'a>(scan: &mut Scan<'a>, now_ns: u64) -> Option<Row<'a>> {
    let (mut resource, mut spans) = (&b"{}"[..], 0);
    scan.members(|scan, member| match member {
        ResourceMember::Resource => {
            resource = scan.value()?;
            Some(())
        }
        ResourceMember::ScopeSpans => scan.elements(|scan| {
            spans += scope_spans(scan, now_ns)?;
            Some(())
        }),
    })?;
    Some(Row { said: Said::Resource(resource), spans })
}

fn scope_spans(scan: &mut Scan<'_>, now_ns: u64) -> Option<u64> {
    let mut spans = 0;
    scan.members(|scan, member| match member {
        // Once for all of its spans.
        ScopeMember::Scope => is_usual_scope(std::str::from_utf8(scan.value()?).ok()?).then_some(()),
        ScopeMember::Spans => scan.elements(|scan| {
            spans += 1;
            span(scan, now_ns)
        }),
        ScopeMember::SchemaUrl => scan.any_text(),
    })?;
    Some(spans)
}

fn span(scan: &mut Scan<'_>, now_ns: u64) -> Option<()> {
    let (mut has_trace_id, mut has_id) = (false, false);
    let (mut start_ns, mut end_ns) = (None, None);
    scan.members(|scan, member| {
        match member {
            SpanMember::TraceId => {
                scan.id::<32>()?;
                has_trace_id = true;
            }
            SpanMember::SpanId => {
                scan.id::<16>()?;
                has_id = true;
            }
            SpanMember::ParentSpanId => usual_parent(scan)?,
            SpanMember::Start => start_ns = Some(scan.integer()?),
            SpanMember::End => end_ns = Some(scan.integer()?),
            SpanMember::Name => usual_name(scan)?,
            SpanMember::Attributes => is_short(scan.found(attributes)?)?,
            _ => pass_over(scan)?,
        }
        Some(())
    })?;
    (has_trace_id && has_id && is_usual_time(start_ns?, end_ns?, now_ns)).then_some(())
}

/// Where a list of attributes ends. Most of a request are such lists, and in most of them all but the key and the
/// value is always the same. Compared with that, its length is known without a search, whose result the next one
/// would have to wait for.
fn attributes(bytes: &[u8], at: usize) -> Option<usize> {
    usual_attributes(bytes, at).or_else(|| skip::value(bytes, at))
}

/// The values that are texts.
const TEXTS: [&[u8]; 2] = [b"\"stringValue\":\"", b"\"intValue\":\""];

fn usual_attributes(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = skip::literal(bytes, at, b"[")?;
    loop {
        at = skip::literal(bytes, at, b"{\"key\":\"")?;
        at = skip::string(bytes, at)?;
        at = skip::literal(bytes, at, b",\"value\":{")?;
        at = match TEXTS.iter().find_map(|name| skip::literal(bytes, at, name)) {
            Some(text) => skip::string(bytes, text)?,
            None => skip::value(bytes, skip::key(bytes, at)?)?,
        };
        at = skip::literal(bytes, at, b"}}")?;
        match bytes.get(at)? {
            b',' => at += 1,
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}
