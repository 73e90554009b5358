//! From a finished span to the text of a datagram.

mod json;
pub(crate) mod zipkin;

use std::ffi::CString;

pub(crate) use json::value_text;

use crate::fields::Fields;

/// `fields` as a JSON object with their types kept, for the probes.
pub(crate) fn fields_object(fields: &Fields) -> CString {
    let mut out = Vec::new();
    let mut object = json::Object::open(&mut out);
    json::fields_into(&mut object, fields);
    object.close();
    nul_terminated(out)
}

/// JSON as a C string. JSON has no NUL: inside strings it is escaped.
pub(crate) fn nul_terminated(json: Vec<u8>) -> CString {
    CString::new(json).unwrap_or_default()
}
