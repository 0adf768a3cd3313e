//! What a token file tells of where its documents come from.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::{Result, TextError};

/// A file that was read, as it was then. A token file whose origins are unchanged need not be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file, by the name it was given.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970; 0 where the system does not tell.
    pub modified: u64,
}

impl Origin {
    /// The state of the file at `path`.
    ///
    /// # Errors
    /// [`TextError::Io`] if there is none.
    pub fn of(path: &Path) -> Result<Self> {
        let metadata = path
            .metadata()
            .map_err(|cause| TextError::io(path, cause))?;
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified: since.map_or(0, |since| since.as_nanos() as u64),
        })
    }
}

/// The JSON at a token file's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) sources: Vec<String>,
    pub(super) origin: Vec<Origin>,
    #[serde(default)]
    pub(super) limit: Option<u64>,
    #[serde(default)]
    pub(super) malformed: u64,
    #[serde(default)]
    pub(super) unanswered: u64,
    #[serde(default)]
    pub(super) refused: u64,
}
