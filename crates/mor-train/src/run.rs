//! The layout of a run's folder.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Result, TrainError};

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

    /// Claims the folder, which is made if need be, for as long as the returned file is open: two
    /// processes must not write one run.
    ///
    /// # Errors
    /// [`TrainError::Run`] when another process has it, or [`TrainError::Io`].
    pub(crate) fn lock(&self) -> Result<File> {
        std::fs::create_dir_all(&self.0).map_err(TrainError::io(&self.0))?;
        let path = self.0.join(".lock");
        let file = File::create(&path).map_err(TrainError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(TrainError::Run {
                path: self.0.clone(),
                problem: "another process is training in this folder; wait for it or stop it"
                    .to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(TrainError::Io { path, source }),
        }
    }
}
