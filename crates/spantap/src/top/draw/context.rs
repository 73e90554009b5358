//! What the pages are drawn with.

use crate::open::OpenCount;
use crate::top::open::Open;
use crate::top::theme::Theme;

/// What is shown beside the data.
pub(in crate::top) struct Context<'a> {
    pub(in crate::top) theme: Theme,
    /// Where the spans come from.
    pub(in crate::top) source: &'a str,
    /// Whether a file is being read.
    pub(in crate::top) is_reading: bool,
    /// The spans that are open.
    pub(in crate::top) open: &'a [Open],
    /// How many are open. The reports may not have room for all.
    pub(in crate::top) open_count: Option<OpenCount>,
    /// What was open in processes that have ended, in lines for each, the latest at the end.
    pub(in crate::top) ended: &'a [Vec<String>],
    /// What was lost, and what there is to say, in lines.
    pub(in crate::top) losses: &'a [String],
    /// What there is to say of losses in a few words, if there were any.
    pub(in crate::top) trouble: Option<&'a str>,
}
