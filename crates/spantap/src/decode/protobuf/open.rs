//! Reads a report of open spans in protobuf.

use super::super::fault::Found;
use super::super::faults::Faults;
use super::super::open::OpenReport;
use super::fields::{Fields, Value};
use super::typed;

/// Reads the field 1018 of a request.
pub(super) fn report(bytes: &[u8], faults: &mut Faults) -> Result<OpenReport, Found> {
    let mut report = OpenReport::default();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Fixed64(time)) => report.at_ns = time,
            (2, Value::Bytes(bytes)) => match typed::span(bytes, faults) {
                Ok(span) => report.spans.push(span),
                Err(found) => faults.add(found),
            },
            (3, Value::Integer(threshold_ns)) => report.threshold_ns = threshold_ns,
            (4, Value::Integer(count)) => report.count = count,
            _ => {}
        }
    }
    Ok(report.checked(faults))
}
