//! Counts the allocations of one variant's spans. A program of its own, because counting takes time.

use std::error::Error;

use bench::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Box<dyn Error>> {
    bench::run()
}
