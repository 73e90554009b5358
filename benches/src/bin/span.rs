//! Times the spans of one variant; the library describes the options.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    bench::run()
}
