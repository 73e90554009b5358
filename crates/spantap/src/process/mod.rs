//! The processes that send spans.
//!
//! `sender` identifies a process by what the kernel reports, `resource` by how it describes itself. `executable` names
//! its program, `image` identifies one execution of a program, and `exec` detects when it changes, and `life` when it ends. `sequence` counts
//! spans that were sent and never received. `maps` reads what is mapped in its memory.

mod exec;
mod executable;
mod image;
mod life;
pub(crate) mod maps;
mod resource;
mod sender;
mod sent_by;
mod sequence;

pub(crate) use exec::Programs;
#[cfg(feature = "ebpf")]
pub(crate) use executable::Executable;
pub(crate) use executable::program_name;
pub(crate) use image::Image;
pub(crate) use life::Life;
pub use resource::Process;
pub(crate) use sender::MAX_SENDERS;
pub use sender::Sender;
pub use sent_by::SentBy;
pub use sequence::{Before, Progress, Senders, Sequence};
