//! What can be wrong with a model folder.

use std::path::PathBuf;

/// An unusable configuration or weights file: names the file, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The operating system refused a read or a write.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The path names no model folder.
    #[error("{path}: {found}; a model folder holds config.json and model.safetensors", path = .path.display())]
    NotAModel {
        /// The path that was given.
        path: PathBuf,
        /// What stands there instead.
        found: String,
    },
    /// The text is not JSON of the expected shape.
    #[error("{path}: not a model configuration: {source}", path = .path.display())]
    Json {
        /// The file in question.
        path: PathBuf,
        /// Where parsing stopped, and why.
        source: serde_json::Error,
    },
    /// A value is out of range or contradicts another.
    #[error("{path}: `{field}` {problem}", path = .path.display())]
    Field {
        /// The file, or the preset's name.
        path: PathBuf,
        /// The key as it stands in the file.
        field: &'static str,
        /// What was found and what is allowed.
        problem: String,
    },
    /// The weights file is damaged or does not belong to the configuration.
    #[error("{path}: {problem}", path = .path.display())]
    Weights {
        /// The weights file.
        path: PathBuf,
        /// What was found and what to do.
        problem: String,
    },
    /// There is no preset of that name.
    #[error("no preset is called `{0}`; there are: {1}")]
    UnknownPreset(String, String),
}

#[cfg(feature = "fs")]
impl From<mor_files::FileError> for ConfigError {
    fn from(error: mor_files::FileError) -> Self {
        Self::Io {
            path: error.path,
            source: error.source,
        }
    }
}
