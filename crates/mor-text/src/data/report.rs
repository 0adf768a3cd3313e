//! Why rows were dropped, and how many.

use std::collections::BTreeMap;

use serde::Serialize;

/// Why a row was dropped. A row is counted under the first reason that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No row at all: of no known shape, or damaged.
    Malformed,
    /// No assistant's message, or only blank ones and ones of weight 0: nothing to learn from.
    Unanswered,
    /// Fewer characters than [`crate::data::Filter::min_chars`].
    TooShort,
    /// More characters than [`crate::data::Filter::max_chars`].
    TooLong,
    /// Fewer spaces than [`crate::data::Filter::min_spaces`].
    FewSpaces,
    /// Begins with one of [`crate::data::Filter::reject_prefixes`].
    Link,
    /// More full stops than [`crate::data::Filter::max_full_stops`].
    FullStops,
    /// Begins like an earlier row, or equals one.
    Duplicate,
    /// Left out by the weight of its file.
    Weight,
    /// [`crate::data::Filter::max_rows`] rows had been kept already.
    Surplus,
}

impl Reason {
    /// All reasons, in the order in which they are checked.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::Unanswered,
        Self::TooShort,
        Self::TooLong,
        Self::FewSpaces,
        Self::Link,
        Self::FullStops,
        Self::Duplicate,
        Self::Weight,
        Self::Surplus,
    ];

    /// The reason in words, for a table.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unanswered => "without an answer",
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::FewSpaces => "too few spaces",
            Self::Link => "begins with a link",
            Self::FullStops => "too many full stops",
            Self::Duplicate => "duplicate",
            Self::Weight => "left out by weight",
            Self::Surplus => "beyond the row limit",
        }
    }
}

/// How many rows were kept, and how many each condition dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FilterReport {
    /// Rows that were read, malformed ones and pieces of running text among them.
    pub rows: u64,
    /// Rows kept.
    pub kept: u64,
    /// UTF-8 bytes of the contents of the rows kept.
    pub kept_bytes: u64,
    /// Rows that are [`Reason::Unanswered`].
    pub unanswered: u64,
    /// Rows [`Reason::TooShort`].
    pub too_short: u64,
    /// Rows [`Reason::TooLong`].
    pub too_long: u64,
    /// Rows with [`Reason::FewSpaces`].
    pub few_spaces: u64,
    /// Rows that begin with a [`Reason::Link`].
    pub link: u64,
    /// Rows with too many [`Reason::FullStops`].
    pub full_stops: u64,
    /// Rows that are a [`Reason::Duplicate`].
    pub duplicate: u64,
    /// Rows left out by [`Reason::Weight`].
    pub weight: u64,
    /// Rows that are [`Reason::Surplus`].
    pub surplus: u64,
    /// Rows that are [`Reason::Malformed`].
    pub malformed: u64,
    /// Of the rows, pieces of running text, to which no condition applies.
    pub text_pieces: u64,
    /// Fields and columns that were not used, with how many rows have each; past a few dozen the rest are counted
    /// together, under no name.
    pub unused: BTreeMap<String, u64>,
}

impl FilterReport {
    /// The count of one reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Malformed => self.malformed,
            Reason::Unanswered => self.unanswered,
            Reason::TooShort => self.too_short,
            Reason::TooLong => self.too_long,
            Reason::FewSpaces => self.few_spaces,
            Reason::Link => self.link,
            Reason::FullStops => self.full_stops,
            Reason::Duplicate => self.duplicate,
            Reason::Weight => self.weight,
            Reason::Surplus => self.surplus,
        }
    }

    pub(super) fn dropped_mut(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Malformed => &mut self.malformed,
            Reason::Unanswered => &mut self.unanswered,
            Reason::TooShort => &mut self.too_short,
            Reason::TooLong => &mut self.too_long,
            Reason::FewSpaces => &mut self.few_spaces,
            Reason::Link => &mut self.link,
            Reason::FullStops => &mut self.full_stops,
            Reason::Duplicate => &mut self.duplicate,
            Reason::Weight => &mut self.weight,
            Reason::Surplus => &mut self.surplus,
        }
    }
}
