//! The two probes of a callsite.

/// Which probe of a callsite it is.
pub trait Step: 'static {
    /// What follows the name of the callsite.
    const SUFFIX: &'static str;
    /// Where the counter of its consumers is.
    const SEMAPHORE: usize;
}

/// The probe that fires when a span begins, and the one of an event.
#[derive(Debug)]
pub enum Entry {}

impl Step for Entry {
    const SUFFIX: &'static str = "";
    const SEMAPHORE: usize = 0;
}

/// The probe that fires when a span ends.
#[derive(Debug)]
pub enum Exit {}

impl Step for Exit {
    const SUFFIX: &'static str = "__exit";
    const SEMAPHORE: usize = 2;
}
