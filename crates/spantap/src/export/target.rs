//! What the user asks for: a format and a file.

use std::path::PathBuf;
use std::str::FromStr;

/// A format that can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// OTLP in JSON lines.
    OtlpJson,
    /// Rows for the table of an OpenTelemetry Collector in ClickHouse.
    Clickhouse,
    /// Folded stacks by self time.
    Folded,
    /// Folded stacks, with what the threads did below each span.
    FoldedCauses,
    /// A flame graph by self time.
    Flamegraph,
    /// A flame graph, with what the threads did above each span.
    FlamegraphCauses,
    /// A trace for Perfetto.
    Perfetto,
    /// A report in one HTML file.
    Html,
    /// A table of the spans in Parquet.
    Parquet,
}

impl Format {
    /// All formats, with their names on the command line.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Html, "html"),
        (Self::Folded, "folded"),
        (Self::FoldedCauses, "folded-causes"),
        (Self::Flamegraph, "flamegraph"),
        (Self::FlamegraphCauses, "flamegraph-causes"),
        (Self::Perfetto, "perfetto"),
        (Self::Parquet, "parquet"),
        (Self::OtlpJson, "otlp-json"),
        (Self::Clickhouse, "clickhouse"),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(format, _)| *format == self).map_or("", |(_, name)| name)
    }

    /// Whether it is made of whole traces, and not of spans one by one.
    pub(super) fn needs_traces(self) -> bool {
        !matches!(self, Self::OtlpJson | Self::Clickhouse)
    }
}

/// A format, and the file to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The format.
    pub format: Format,
    /// The file; `-` is the standard output.
    pub path: PathBuf,
}

impl FromStr for Target {
    type Err = String;

    /// Reads `FORMAT=FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = Format::ALL.map(|(_, name)| name).join(", ");
        let Some((name, path)) = text.split_once('=').filter(|(_, path)| !path.is_empty()) else {
            return Err(format!("write FORMAT=FILE, where FORMAT is one of {names}, and FILE may be -"));
        };
        let format = Format::ALL.into_iter().find(|(_, known)| *known == name);
        let (format, _) =
            format.ok_or_else(|| format!("there is no format {name}; the formats are {names}"))?;
        Ok(Self { format, path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_format_and_a_file() {
        let target = |format, path: &str| Ok(Target { format, path: path.into() });
        assert_eq!("folded=a".parse(), target(Format::Folded, "a"));
        assert_eq!("otlp-json=-".parse(), target(Format::OtlpJson, "-"));
        assert_eq!("flamegraph-causes=a=b".parse(), target(Format::FlamegraphCauses, "a=b"));
        for text in ["", "folded", "folded=", "=a", "Folded=a", "svg=a"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
