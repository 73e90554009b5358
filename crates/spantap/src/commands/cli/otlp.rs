//! The options for OTLP requests.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::metrics::Address;
use crate::source::otlp::{Settings, Tls};

/// Where OTLP requests are taken, and from whom.
#[derive(Args, Debug)]
pub(in crate::commands) struct OtlpIn {
    /// Also take spans of any OpenTelemetry SDK, over OTLP, such as at 127.0.0.1:4317; may be repeated
    ///
    /// Each address takes gRPC and HTTP, protobuf and JSON. ADDRESS is HOST:PORT, or :PORT for all addresses of this machine;
    /// with port 0, spantap says which one it has. Other machines can't reach 127.0.0.1; an address that they can reach needs
    /// --otlp-cert, --otlp-key and --otlp-token-file.
    #[arg(long, value_name = "ADDRESS", value_parser = address, help_heading = OTLP)]
    pub(in crate::commands) otlp: Vec<Address>,
    /// Take OTLP over TLS only, with this certificate in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "otlp", requires = "otlp_key", help_heading = OTLP)]
    pub(in crate::commands) otlp_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "otlp_cert", help_heading = OTLP)]
    pub(in crate::commands) otlp_key: Option<PathBuf>,
    /// Take OTLP only from clients that send the token in this file, as the header "authorization: Bearer TOKEN"
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "otlp", help_heading = OTLP)]
    pub(in crate::commands) otlp_token_file: Option<PathBuf>,
    /// Let other machines send without TLS or without a token, where the network itself is safe
    #[arg(long, requires = "otlp", help_heading = OTLP)]
    pub(in crate::commands) otlp_insecure: bool,
}

const OTLP: &str = "Options for OTLP";

/// Reads an address; its examples have the port of OTLP.
fn address(text: &str) -> Result<Address, String> {
    Address::parse(text, 4317)
}

impl OtlpIn {
    /// The same for the server.
    pub(in crate::commands) fn settings(self) -> Settings {
        let tls = self.otlp_cert.zip(self.otlp_key);
        Settings {
            addresses: self.otlp,
            tls: tls.map(|(certificate, key)| Tls { certificate, key }),
            token_file: self.otlp_token_file,
            is_insecure: self.otlp_insecure,
        }
    }

    /// The addresses in words, for a title.
    pub(in crate::commands) fn title(&self) -> Option<String> {
        let addresses: Vec<String> = self.otlp.iter().map(Address::to_string).collect();
        (!addresses.is_empty()).then(|| format!("OTLP at {}", addresses.join(", ")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use clap::Parser;

    use super::super::Cli;

    fn parse(args: &str) -> Result<(), String> {
        let parsed = Cli::try_parse_from(["spantap"].into_iter().chain(args.split(' ')));
        parsed.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn otlp_is_a_source_of_its_own_or_beside_another() {
        let good = [
            "listen --otlp 127.0.0.1:4317",
            "listen a.sock --otlp 127.0.0.1:4317 --otlp :4318 --otlp-insecure",
            "listen --otlp 4317 --otlp-cert a --otlp-key b --otlp-token-file c",
            "record c.spans --otlp [::1]:4317",
            "record c.spans a.sock --otlp localhost:4317",
            "record c.spans --otlp localhost:4317 -- ./a --otlp",
            "record c.spans --pid 7 --otlp localhost:4317",
            "top --otlp 127.0.0.1:4317",
            "top a.sock --otlp 127.0.0.1:4317 --allow-uid 7",
            "run --otlp 127.0.0.1:4317 -- ./a",
            "attach --pid 7 --otlp 127.0.0.1:4317",
        ];
        for args in good {
            assert_eq!(parse(args), Ok(()), "{args}");
        }
        for args in [
            "listen",
            "record c.spans",
            "top",
            "listen --otlp",
            "listen --otlp http://localhost:4317",
            "listen a.sock --otlp-token-file c",
            "listen --otlp 4317 --otlp-cert a",
            "listen --otlp 4317 --otlp-key a",
            "record c.spans a.sock --pid 7 --otlp 4317",
            "view c.spans --otlp 4317",
            // The kernel says nothing of who sends over OTLP.
            "listen --otlp 4317 --allow-uid 7",
            "record c.spans --otlp 4317 --allow-uid 7",
            "top --otlp 4317 --allow-uid 7",
        ] {
            assert!(parse(args).is_err(), "{args}");
        }
        let error = parse("listen --otlp localhost").unwrap_err();
        assert!(error.contains("localhost:4317"), "{error}");
    }
}
