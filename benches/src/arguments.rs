//! The programs' arguments: one or two words, and options with a value.

use std::error::Error;
use std::str::FromStr;

/// The arguments of this process.
pub struct Arguments {
    words: Vec<String>,
    options: Vec<(String, String)>,
}

impl Arguments {
    /// Splits them into words and options.
    pub fn of_process() -> Result<Self, Box<dyn Error>> {
        let (mut words, mut options) = (Vec::new(), Vec::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument.starts_with("--") {
                let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
                options.push((argument, value));
            } else {
                words.push(argument);
            }
        }
        Ok(Self { words, options })
    }

    /// The first word.
    pub fn first(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }

    /// The value of the option `name`, if it was given.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Box<dyn Error>> {
        let Some((_, value)) = self.options.iter().find(|(given, _)| given == name) else {
            return Ok(None);
        };
        Ok(Some(value.parse().map_err(|_| format!("{name} {value}: not a valid number"))?))
    }
}
