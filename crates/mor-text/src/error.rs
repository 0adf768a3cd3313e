//! What can go wrong with text: one variant per cause, each naming the file and the remedy where there is one.

use std::path::PathBuf;

/// The result of every fallible operation of this crate.
pub type Result<T, E = TextError> = std::result::Result<T, E>;

/// An error of the tokenizer, the chat template or a dataset reader.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file could not be opened, read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said. Part of the message, hence not a `source`, which reports print
        /// again.
        cause: std::io::Error,
    },
    /// `tokenizer.json` or `tokenizer_config.json` is not what this crate can use.
    #[error("{file}: {reason}")]
    Tokenizer {
        /// The file's name inside the model folder.
        file: &'static str,
        /// What was found, and what is expected.
        reason: String,
    },
    /// A file of a tokenizer that is being imported is not of the expected form.
    #[error("{}: {reason}", path.display())]
    Import {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
    },
    /// A text could not be encoded.
    #[error("cannot encode this text: {reason}")]
    Encode {
        /// What stood in the way.
        reason: String,
    },
    /// The chat template is missing, malformed, too costly, or refused the messages.
    #[error("chat template: {reason}")]
    Template {
        /// What was found.
        reason: String,
    },
    /// One line of a dataset is malformed. A reader can go on after this error.
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        /// The dataset file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// Why the line is unusable.
        reason: String,
    },
    /// A text file holds bytes that are no text.
    #[error(
        "{}: not UTF-8 at byte {byte}; convert it to UTF-8, or leave it out if it is no text",
        path.display()
    )]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that is not UTF-8, counted from 0.
        byte: u64,
    },
    /// A file is evidently no text, or a table or folder holds nothing that can be used.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what to do.
        reason: String,
    },
    /// The inputs were read, but hold nothing to learn from.
    #[error("{input}: nothing to learn from: {reason}")]
    Nothing {
        /// The files that were read.
        input: String,
        /// What became of their rows.
        reason: String,
    },
    /// A token file is damaged, of another version, or none.
    #[error("{}: {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What was found, and what to do.
        reason: String,
    },
    /// A file of rewording rules is not of the expected form.
    #[error("{}: {reason}", path.display())]
    Rewrites {
        /// The file.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
    },
    /// The inputs hold no usable text.
    #[error("{input} has no text: expected chat JSON lines ({{\"messages\":[…]}}) or plain text")]
    Empty {
        /// The files that were read.
        input: String,
    },
    /// A vocabulary could not be learnt.
    #[error("cannot train a tokenizer: {reason}")]
    Train {
        /// What stood in the way.
        reason: String,
    },
    /// An option has a value that cannot work.
    #[error("{0}")]
    Option(String),
}

impl TextError {
    /// Wraps an I/O error with the path it is about.
    pub(crate) fn io(path: impl Into<PathBuf>, cause: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            cause,
        }
    }

    /// True for a malformed line, after which its reader can go on.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed { .. })
    }
}

#[cfg(feature = "fs")]
impl From<mor_files::FileError> for TextError {
    fn from(error: mor_files::FileError) -> Self {
        Self::io(error.path, error.source)
    }
}
