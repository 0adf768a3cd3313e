//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a model folder (`config.json`, `model.safetensors`, tokenizer) with
//! `optimizer.safetensors`, `recipe.toml` and `state.json` beside. It appears under its name only
//! when it is whole; `state.json` holds a SHA-256 of each large file, so damage is found on reading.

mod folder;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mor_config::{
    CONFIG_FILE, ModelConfig, Precision, WEIGHTS_FILE, Weights, save_tensors, write_atomic,
};
use mor_text::Tokenizer;
use serde::{Deserialize, Serialize};

pub(crate) use folder::{existing, hex};
pub use folder::{link_copy, recover};

use crate::recipe::{Recipe, TrainSettings};
use crate::{Result, TrainError};

/// File name of the optimizer's state.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// File name of the position in the run.
pub const STATE_FILE: &str = "state.json";
/// File name of the recipe.
pub const RECIPE_FILE: &str = "recipe.toml";
/// Prefix of the moving averages in the optimizer's file.
pub const AVERAGE_PREFIX: &str = "average.";

/// Version of `state.json`.
const FORMAT: u32 = 1;

/// Named tensors, as the weights file wants them.
pub type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Where a run stands, and what it was started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this file.
    pub format: u32,
    /// Optimizer steps taken, skipped ones included.
    pub step: u64,
    /// Targets learned from.
    pub tokens: u64,
    /// Whole passes over the data.
    pub epoch: u64,
    /// Batches of the current pass that are done.
    pub batch: usize,
    /// Seconds of training, over all sessions.
    pub seconds: f64,
    /// Steps skipped because the loss was not a finite number.
    pub skipped: u32,
    /// Best validation so far.
    pub best: Option<Best>,
    /// The step after which the last validation was.
    #[serde(default)]
    pub validated: Option<u64>,
    /// SHA-256 of the tokenized training data: another file would be another run.
    pub data: String,
    /// The settings of the run.
    pub settings: TrainSettings,
    /// SHA-256 of the other large files of the checkpoint.
    pub files: BTreeMap<String, String>,
}

/// The best validation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was measured.
    pub step: u64,
    /// Its bits per byte.
    pub bits_per_byte: f64,
}

impl State {
    /// The start of a run.
    pub fn new(settings: TrainSettings, data: String) -> Self {
        Self {
            format: FORMAT,
            step: 0,
            tokens: 0,
            epoch: 0,
            batch: 0,
            seconds: 0.0,
            skipped: 0,
            best: None,
            validated: None,
            data,
            settings,
            files: BTreeMap::new(),
        }
    }
}

/// Writes a checkpoint at `dir`, replacing the one there in one step once the new one is whole
/// and on disk.
///
/// # Errors
/// [`TrainError::Io`] or [`TrainError::Config`]; the old checkpoint is untouched then.
pub fn write(
    dir: &Path,
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    state: &State,
    weights: &Tensors,
    optimizer: &Tensors,
) -> Result<()> {
    folder::replace(dir, |partial| {
        save_tensors(&partial.join(WEIGHTS_FILE), weights, Precision::F32)?;
        save_tensors(&partial.join(OPTIMIZER_FILE), optimizer, Precision::F32)?;
        let config = recipe.model.to_json();
        write_atomic(&partial.join(CONFIG_FILE), config.as_bytes())?;
        write_atomic(&partial.join(RECIPE_FILE), recipe.text.as_bytes())?;
        tokenizer.save(partial)?;
        let mut state = state.clone();
        for name in [WEIGHTS_FILE, OPTIMIZER_FILE] {
            let hash = folder::sha256(&partial.join(name))?;
            state.files.insert(name.to_owned(), hash);
        }
        let text = serde_json::to_vec_pretty(&state).map_err(|error| TrainError::Io {
            path: partial.join(STATE_FILE),
            source: error.into(),
        })?;
        Ok(write_atomic(&partial.join(STATE_FILE), &text)?)
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
    /// [`TrainError::Checkpoint`] naming the damaged file and the way out.
    pub fn open(dir: &Path) -> Result<Self> {
        let damaged = |file: &str, problem: String| TrainError::Checkpoint {
            path: dir.join(file),
            problem: format!(
                "{problem}; the checkpoint is damaged: remove {} to go on from another one",
                dir.display()
            ),
        };
        let path = dir.join(STATE_FILE);
        let text = std::fs::read(&path).map_err(|error| damaged(STATE_FILE, error.to_string()))?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| damaged(STATE_FILE, error.to_string()))?;
        if state.format != FORMAT {
            return Err(TrainError::Checkpoint {
                path,
                problem: format!("is of format {}; this version reads {FORMAT}", state.format),
            });
        }
        for name in [WEIGHTS_FILE, OPTIMIZER_FILE] {
            let found = folder::sha256(&dir.join(name))
                .map_err(|error| damaged(name, error.to_string()))?;
            if state.files.get(name) != Some(&found) {
                return Err(damaged(name, "its contents have changed".to_owned()));
            }
        }
        Ok(Self {
            path: dir.to_owned(),
            config: ModelConfig::from_dir(dir)?,
            weights: Weights::open(&dir.join(WEIGHTS_FILE))?,
            optimizer: Weights::open(&dir.join(OPTIMIZER_FILE))?,
            state,
        })
    }

    /// The weights to use the model with: the moving average where the run keeps one.
    ///
    /// # Errors
    /// [`TrainError::Config`] when a tensor cannot be read.
    pub fn usable_weights(&self) -> Result<Tensors> {
        let averaged = self.state.settings.ema.is_some();
        let specs = self.config.tensors().into_iter();
        specs
            .map(|spec| {
                let values = if averaged {
                    let name = format!("{AVERAGE_PREFIX}{}", spec.name);
                    self.optimizer.to_f32(&name)?
                } else {
                    self.weights.to_f32(&spec.name)?
                };
                Ok((spec.name, spec.shape, values))
            })
            .collect()
    }
}
