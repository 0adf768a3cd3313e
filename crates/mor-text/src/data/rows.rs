//! Rows of several files of any format.

use std::path::PathBuf;

use crate::data::{Columns, Document, Documents};
use crate::{Conversation, Result};

/// The rows of several files, in order. Of plain text each line is a row: a conversation of one assistant
/// message, since that is what a model should learn to write. Rows that name no source have their file's name
/// without its extension.
///
/// A malformed row is an `Err` after which the rows go on; any other error is the last item.
#[derive(Debug)]
pub struct Rows(Documents);

impl Rows {
    /// The rows of `inputs`. Files are opened when their turn comes.
    pub fn new(inputs: &[PathBuf]) -> Self {
        Self(Documents::of_lines(inputs))
    }

    /// The same rows, of tables by the columns given, if there are any.
    #[must_use]
    pub fn with_columns(self, columns: Option<Columns>) -> Self {
        Self(self.0.with_columns(columns))
    }

    /// Bytes read so far, to compare with the sizes of the files.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

impl Iterator for Rows {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.0.next()?;
        Some(document.map(Document::into_row))
    }
}
