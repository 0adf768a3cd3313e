//! The layout of a run's folder.

use std::fs::File;
use std::path::{Path, PathBuf};

use mor_files::PathCheck;
use mor_files::folder::{lock, recover, recover_all, remove_partials, remove_whole};

use crate::{Result, TrainError};

/// What the names of numbered checkpoints begin with.
const STEP: &str = "step-";
/// What the names of checkpoints that were found damaged begin with.
const DAMAGED: &str = "damaged-";

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
    pub fn numbered(&self) -> PathBuf {
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

    /// Where the best checkpoint goes when its figures no longer compare.
    pub(crate) fn earlier_best(&self, step: u64) -> PathBuf {
        self.0.join(format!("earlier-best-{STEP}{step:09}"))
    }

    /// Where a damaged checkpoint goes.
    pub(crate) fn damaged(checkpoint: &Path) -> Option<PathBuf> {
        let name = checkpoint.file_name()?.to_string_lossy();
        Some(checkpoint.with_file_name(format!("{DAMAGED}{name}")))
    }

    /// Whether checkpoints have gone there.
    pub(crate) fn has_damaged(&self) -> bool {
        let folders = [self.numbered(), self.0.clone()];
        let entries = folders.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
        let mut names = entries.flatten().flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with(DAMAGED))
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

    /// Adds to `check` what a run writes into its folder, which `option` names. Each of `tokenized` is the name of data
    /// that are tokenized there.
    pub fn writes(&self, check: PathCheck, option: &str, tokenized: &[&str]) -> PathCheck {
        let files = ["metrics.jsonl", "recipe.toml", "report.html", ".lock"];
        let check = check.writes_files(option, &self.0, files);
        let folders = [self.numbered(), self.best(), self.model(), self.events()];
        let check = folders
            .iter()
            .fold(check, |check, folder| check.writes_tree(option, folder));
        let tokenized = tokenized.iter();
        tokenized.fold(check, |check, name| {
            check.writes(option, &self.tokens(name))
        })
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
        recover_all(&self.numbered())?;
        let model = self.model();
        for dir in [&self.0, &self.numbered(), &model, &self.0.join("data")] {
            remove_partials(dir)?;
        }
        Ok(())
    }

    /// Removes all but the newest `keep` numbered checkpoints.
    pub(crate) fn prune(&self, keep: usize) -> Result<()> {
        let checkpoints = self.checkpoints();
        for dir in checkpoints.iter().skip(keep) {
            remove_whole(dir)?;
        }
        Ok(())
    }

    /// Claims the folder, which is made if need be, for as long as the returned file is open: two
    /// processes must not write one run.
    ///
    /// # Errors
    /// [`TrainError::Run`] when another process has it, or [`TrainError::Io`].
    pub(crate) fn lock(&self) -> Result<File> {
        lock(&self.0)?.ok_or_else(|| TrainError::Run {
            path: self.0.clone(),
            problem: "another process is training in this folder; wait for it or stop it"
                .to_owned(),
        })
    }
}
