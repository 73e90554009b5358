//! The process that the layer runs in.
//!
//! `executable` finds its name, `forks` notices a fork, and `exit` runs code at its end. `threads` starts the
//! layer's own threads, and numbers those of the program. `context` tells other programs about the process.

mod context;
mod executable;
mod exit;
mod forks;
mod threads;

pub(crate) use context::publish as publish_context;
pub(crate) use executable::Executable;
pub(crate) use exit::at_exit;
#[cfg(test)]
pub(crate) use forks::tests::pretend_to_be_a_child;
pub(crate) use forks::{PerProcess, forks, lock_for_a_moment, watch_forks};
pub(crate) use threads::{join, spawn, thread_number};
