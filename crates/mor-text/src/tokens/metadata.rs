//! What a token file tells of where its documents come from.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::hexadecimal;

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
    /// SHA-256 of its contents, in hexadecimal; none of what can be read only once, such as a pipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Origin {
    /// The state of the file at `path`, which is read once for its hash.
    ///
    /// # Errors
    /// [`TextError::Io`] if there is none, or it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let metadata = path
            .metadata()
            .map_err(|cause| TextError::io(path, cause))?;
        let sha256 = match metadata.is_file() {
            true => Some(hash(path)?),
            false => None,
        };
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified: since.map_or(0, |since| since.as_nanos() as u64),
            sha256,
        })
    }

    /// Whether the file at `path` has this name and these contents. Times do not count: a file can be replaced within
    /// one, or changed and given its old one.
    pub(super) fn is_still(&self, path: &Path) -> bool {
        let same_size = || path.metadata().is_ok_and(|now| now.len() == self.size);
        self.path == path && self.sha256.is_some() && same_size() && hash(path).ok() == self.sha256
    }
}

/// The SHA-256 of a file in hexadecimal.
fn hash(path: &Path) -> Result<String> {
    let io = |cause| TextError::io(path, cause);
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hexadecimal(&hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
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
