//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a model folder (`config.json`, `model.safetensors`, tokenizer) with
//! `optimizer.safetensors`, `recipe.toml` and `state.json` beside, and a checksum of each in `SHA256SUMS`. It appears
//! under its name only when it is whole and on disk, so any damage happened to it later, and is found on reading.

mod checksums;
mod state;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use mor_config::{CONFIG_FILE, ModelConfig, Precision, WEIGHTS_FILE, Weights, save_tensors_with};
use mor_files::folder;
use mor_model::Model;
use mor_text::Tokenizer;

pub use checksums::CHECKSUMS_FILE;

pub use state::{Best, LossHistory, Measured, State};

use crate::{Result, TrainError};

/// File name of the optimizer's state.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// File name of the position in the run.
pub const STATE_FILE: &str = "state.json";
/// File name of the recipe.
pub const RECIPE_FILE: &str = "recipe.toml";
/// Prefix of the moving averages in the optimizer's file.
pub const AVERAGE_PREFIX: &str = "average.";

/// Named tensors, borrowed where they lie in memory.
pub type Tensors<'a> = Vec<(String, Vec<usize>, Cow<'a, [f32]>)>;

/// What goes into a checkpoint.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) model: &'a Model,
    /// The optimizer's state and the moving averages.
    pub(crate) optimizer: Tensors<'a>,
    pub(crate) tokenizer: &'a Tokenizer,
    /// The recipe as it is used.
    pub(crate) recipe: &'a str,
    pub(crate) state: &'a State,
}

/// Writes a checkpoint at `dir`, replacing one there in one step once the new one is whole
/// and on disk.
///
/// # Errors
/// [`TrainError::Io`] or [`TrainError::Config`]; an old checkpoint is untouched then.
pub(crate) fn write(dir: &Path, contents: &Contents) -> Result<()> {
    folder::replace(dir, |partial| {
        let Contents {
            model,
            optimizer,
            state,
            ..
        } = contents;
        let specs = model.config().tensors().into_iter();
        let shapes: Vec<_> = specs.map(|spec| (spec.name, spec.shape)).collect();
        // One tensor at a time: a copy of all would be a third of what training takes.
        save_tensors_with::<TrainError>(
            &partial.join(WEIGHTS_FILE),
            &shapes,
            Precision::F32,
            |index| Ok(Cow::Owned(model.tensor_values(index))),
        )?;
        let shapes: Vec<_> = optimizer
            .iter()
            .map(|(name, shape, _)| (name.clone(), shape.clone()))
            .collect();
        save_tensors_with::<TrainError>(
            &partial.join(OPTIMIZER_FILE),
            &shapes,
            Precision::F32,
            |index| Ok(Cow::Borrowed(&*optimizer[index].2)),
        )?;
        let config = model.config().to_json();
        mor_files::write(&partial.join(CONFIG_FILE), config.as_bytes())?;
        mor_files::write(&partial.join(RECIPE_FILE), contents.recipe.as_bytes())?;
        contents.tokenizer.save(partial)?;
        let text = serde_json::to_vec_pretty(state).map_err(|error| TrainError::Io {
            path: partial.join(STATE_FILE),
            source: error.into(),
        })?;
        mor_files::write(&partial.join(STATE_FILE), &text)?;
        checksums::write(partial)
    })
}

/// A checkpoint that has been read and found whole.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// The model's configuration.
    pub config: ModelConfig,
    /// The weights as trained.
    pub weights: Weights,
    /// The optimizer's state and the moving averages.
    pub optimizer: Weights,
    /// Where the run stood.
    pub state: State,
}

impl Checkpoint {
    /// Opens a checkpoint and verifies its files.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] naming the damaged file.
    pub fn open(dir: &Path) -> Result<Self> {
        let damaged = |problem: String| TrainError::Checkpoint {
            path: dir.to_owned(),
            problem: format!("the checkpoint is damaged: {problem}"),
        };
        if let Some(problem) = checksums::problem(dir) {
            return Err(damaged(problem));
        }
        let text = std::fs::read(dir.join(STATE_FILE));
        let text = text.map_err(|error| damaged(format!("{STATE_FILE}: {error}")))?;
        let state = State::parse(&text).map_err(|problem| TrainError::Checkpoint {
            path: dir.join(STATE_FILE),
            problem,
        })?;
        Ok(Self {
            path: dir.to_owned(),
            config: ModelConfig::from_dir(dir)?,
            weights: Weights::open(&dir.join(WEIGHTS_FILE))?,
            optimizer: Weights::open(&dir.join(OPTIMIZER_FILE))?,
            state,
        })
    }

    /// A tensor as the model is to be used: the moving average where the run keeps one.
    ///
    /// # Errors
    /// [`TrainError::Config`] when the tensor cannot be read.
    pub fn usable_values(&self, name: &str) -> Result<Vec<f32>> {
        Ok(if self.state.settings.ema.is_some() {
            self.optimizer.to_f32(&format!("{AVERAGE_PREFIX}{name}"))?
        } else {
            self.weights.to_f32(name)?
        })
    }
}

#[cfg(test)]
mod tests;
