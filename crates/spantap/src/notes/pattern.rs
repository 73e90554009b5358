//! Names of probes with `*` and `?`.

use std::str::FromStr;

use super::Probe;

/// Chooses probes by their provider and name, such as `shop__routes:*`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    glob: glob::Pattern,
}

impl FromStr for Pattern {
    type Err = String;

    /// Takes `::` for `__`, since a provider is the path of a module.
    fn from_str(text: &str) -> Result<Self, String> {
        let normal = text.replace("::", "__");
        if !normal.contains(':') {
            return Err(format!("{text:?} has no colon: write PROVIDER:NAME, such as '{normal}:*'"));
        }
        match glob::Pattern::new(&normal) {
            Ok(glob) => Ok(Self { text: text.to_owned(), glob }),
            Err(error) => Err(format!("{} at character {}", error.msg, error.pos + 1)),
        }
    }
}

impl Pattern {
    /// The pattern as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it chooses `probe`.
    pub fn matches(&self, probe: &Probe) -> bool {
        self.glob.matches(&probe.full_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(full_name: &str) -> Probe {
        let (provider, name) = full_name.split_once(':').expect("a colon");
        let (provider, name) = (provider.to_owned(), name.to_owned());
        Probe { provider, name, offset: 0, semaphore: 0, arguments: Vec::new(), source: None }
    }

    #[test]
    fn patterns_choose_by_provider_and_name() {
        let matches =
            |pattern: &str, name: &str| Pattern::from_str(pattern).map(|found| found.matches(&probe(name)));
        for (pattern, name, expected) in [
            ("shop__routes:*", "shop__routes:place_order", true),
            ("shop::routes:place_?rder", "shop__routes:place_order", true),
            ("*:place_order", "shop__routes:place_order", true),
            ("shop__*:*", "shop__routes:place_order", true),
            ("shop:*", "shop__routes:place_order", false),
            ("shop__routes:place", "shop__routes:place_order", false),
        ] {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        }
        assert!(Pattern::from_str("shop").is_err_and(|error| error.contains("'shop:*'")));
        assert!(Pattern::from_str("shop:[").is_err());
    }
}
