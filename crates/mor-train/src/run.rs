//! The layout of a run's folder.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::checkpoint::{recover, remove_partials, remove_whole};
use crate::{Result, TrainError};

/// What the names of numbered checkpoints begin with.
const STEP: &str = "step-";

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

    /// The folder of the numbered checkpoints.
    fn numbered(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// The checkpoint after a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.numbered().join(format!("{STEP}{step:09}"))
    }

    /// The numbered checkpoints, newest first.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.numbered()) else {
            return Vec::new();
        };
        let mut found: Vec<(u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let step = name.to_str()?.strip_prefix(STEP)?.parse().ok()?;
                entry.path().is_dir().then(|| (step, entry.path()))
            })
            .collect();
        found.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
        found.into_iter().map(|(_, path)| path).collect()
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

    /// The recipe as it was used.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }

    /// The page to look at.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// TensorBoard's files.
    pub fn events(&self) -> PathBuf {
        self.0.join("events")
    }

    /// A data file's tokens.
    pub(crate) fn tokens(&self, name: &str) -> PathBuf {
        self.0.join("data").join(format!("{name}.tokens"))
    }

    /// The batches of the step whose loss was not a number.
    pub(crate) fn diverged(&self, step: u64) -> PathBuf {
        self.0.join(format!("diverged-step-{step:09}.json"))
    }

    /// Repairs what a crash may have left. No other process may be writing here.
    pub(crate) fn recover(&self) -> Result<()> {
        recover(&self.best())?;
        if let Ok(entries) = std::fs::read_dir(self.numbered()) {
            for entry in entries.flatten() {
                // One that had stepped aside is found under another name.
                let path = entry.path();
                let name = path.with_extension("");
                recover(if path.extension().is_some() {
                    &name
                } else {
                    &path
                })?;
            }
        }
        let model = self.model();
        for dir in [&self.0, &self.numbered(), &model, &self.0.join("data")] {
            remove_partials(dir)?;
        }
        Ok(())
    }

    /// Removes all but the newest `keep` numbered checkpoints.
    pub(crate) fn prune(&self, keep: usize) -> Result<()> {
        let checkpoints = self.checkpoints();
        checkpoints
            .iter()
            .skip(keep)
            .try_for_each(|dir| remove_whole(dir))
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
