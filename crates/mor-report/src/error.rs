//! What can go wrong: each variant names the file and what was found.

use std::path::{Path, PathBuf};

/// The result of every fallible operation of this crate.
pub type Result<T, E = ReportError> = std::result::Result<T, E>;

/// An error of writing metrics, reports or events.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The operating system refused a read or a write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line of metrics has no JSON form.
    #[error("{}: a line of metrics cannot be written as JSON: {reason}", path.display())]
    Line {
        /// The metrics file.
        path: PathBuf,
        /// What the serializer said.
        reason: String,
    },
    /// A page or a chart of it could not be drawn.
    #[error("{}: the report could not be drawn: {reason}; the metrics are untouched", path.display())]
    Page {
        /// The page that was to be written.
        path: PathBuf,
        /// What the template or the chart said.
        reason: String,
    },
}

impl ReportError {
    /// Wraps an I/O error with the path it is about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl From<mor_files::FileError> for ReportError {
    fn from(error: mor_files::FileError) -> Self {
        Self::Io {
            path: error.path,
            source: error.source,
        }
    }
}
