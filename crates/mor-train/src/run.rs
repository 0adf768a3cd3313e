//! The layout of a run's folder.

use std::path::{Path, PathBuf};

/// The folder that `mor train --output` names.
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The run at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The checkpoint to resume from.
    pub fn last(&self) -> PathBuf {
        self.0.join("last")
    }

    /// The checkpoint with the best validation.
    pub fn best(&self) -> PathBuf {
        self.0.join("best")
    }

    /// The exported model.
    pub fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    /// The metrics file.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }
}
