//! What can be wrong with a checkpoint.

use std::path::{Path, PathBuf};

use mor_config::ConfigError;

/// An unusable checkpoint: names the file, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The operating system refused a read or a write.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is damaged, or not a checkpoint of this model.
    #[error("{path}: {problem}", path = .path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found, and what to do.
        problem: String,
    },
    /// The checkpoint does not say something, and the caller did not either.
    #[error("{0}")]
    Missing(String),
    /// An option contradicts the checkpoint.
    #[error("{0}")]
    Option(String),
    /// The configuration that follows from the checkpoint is not one of ours, or a file cannot be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ImportError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { path, source }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

impl From<mor_files::FileError> for ImportError {
    fn from(error: mor_files::FileError) -> Self {
        Self::io(&error.path, error.source)
    }
}
