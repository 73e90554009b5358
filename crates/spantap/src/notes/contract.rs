//! The layer's own probes. Their notes give every argument as a word, without a name.

use super::{Argument, Kind};

/// The provider of the layer's own probes.
pub const PROVIDER: &str = "tracing";

const NUMBER: Kind = Kind::Integer { bytes: 8, is_signed: false };

/// The layer's own probes, with the names and kinds of their arguments. `docs/wire.md` defines them.
pub const CONTRACT: [(&str, &[(&str, Kind)]); 10] = [
    (
        "new_span",
        &[
            ("span id", Kind::Id),
            ("name", Kind::CText),
            ("target", Kind::CText),
            ("level", NUMBER),
            ("parent id", Kind::Id),
            ("fields", Kind::CText),
            ("trace id high", Kind::Id),
            ("trace id low", Kind::Id),
        ],
    ),
    ("enter", STEP),
    ("exit", STEP),
    (
        "close",
        &[
            ("span id", Kind::Id),
            ("name", Kind::CText),
            ("duration", NUMBER),
            ("busy", NUMBER),
            ("trace id high", Kind::Id),
            ("trace id low", Kind::Id),
            ("parent id", Kind::Id),
        ],
    ),
    ("record", &[("span id", Kind::Id), ("name", Kind::CText), ("fields added", Kind::CText)]),
    (
        "follows_from",
        &[("span id", Kind::Id), ("name", Kind::CText), ("id of the span it follows", Kind::Id)],
    ),
    (
        "event",
        &[
            ("current span id", Kind::Id),
            ("message", Kind::CText),
            ("target", Kind::CText),
            ("level", NUMBER),
            ("fields", Kind::CText),
        ],
    ),
    (
        "span_emit",
        &[("span id", Kind::Id), ("the span's JSON", Kind::CText), ("its length in bytes", NUMBER)],
    ),
    (
        "batch_emit",
        &[("a batch", Kind::Address), ("bytes of the batch", NUMBER), ("spans of the batch", NUMBER)],
    ),
    (
        "thread_register",
        &[("address of the thread's context", Kind::Address), ("layout of the context", NUMBER)],
    ),
];

const STEP: &[(&str, Kind)] =
    &[("span id", Kind::Id), ("name", Kind::CText), ("trace id high", Kind::Id), ("trace id low", Kind::Id)];

/// The arguments of the probe with this name.
pub(super) fn arguments(name: &str) -> Option<Vec<Argument>> {
    let (_, arguments) = CONTRACT.iter().find(|(probe, _)| *probe == name)?;
    Some(arguments.iter().map(|(name, kind)| Argument { name: (*name).to_owned(), kind: *kind }).collect())
}
