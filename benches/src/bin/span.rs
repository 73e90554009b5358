//! Times one variant's spans; see the library.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    bench::run()
}
