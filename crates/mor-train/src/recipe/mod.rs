//! Training recipes: what `configs/*.toml` say.
//!
//! ```toml
//! tokenizer = "../models/technical-10m"   # a folder, relative to this file; or --tokenizer
//!
//! [model]
//! preset = "technical-10m"                # further keys are config.json's and override the preset
//!
//! [train]
//! minutes = 120                           # or steps = N, or epochs = X
//! batch_tokens = 4096                     # or batch_rows = N
//! lr = 3e-3
//!
//! [train.optimizer]
//! kind = "muon"
//! ```

mod differences;
mod model;
mod settings;
mod source;
mod validate;

use std::path::{Path, PathBuf};

use mor_config::ModelConfig;
use serde::Deserialize;

pub use settings::{
    AdamWSettings, BatchSize, Learn, Matmul, MuonSettings, OptimizerSettings, RouterSettings,
    TrainSettings,
};
pub use source::Override;

use crate::schedule::Budget;
use crate::{Result, TrainError};
pub(crate) use differences::differences;
use source::Source;

/// A whole recipe, validated.
///
/// ```
/// use std::path::Path;
///
/// use mor_train::Recipe;
/// use mor_train::recipe::Override;
/// use mor_train::schedule::Budget;
///
/// let path = Path::new("../../configs/technical-10m.toml");
/// let changed = ["train.lr=3e-4".parse::<Override>()?];
/// let mut recipe = Recipe::read(path, &changed)?;
/// recipe.set_budget(Budget::Steps(100))?;
/// assert_eq!((recipe.train.lr, recipe.model.hidden_size), (3e-4, 384));
///
/// let error = Recipe::read(path, &["train.lr=-1".parse::<Override>()?]).unwrap_err();
/// assert!(error.to_string().contains("`train.lr` is -1"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    source: Source,
    preset: toml::Value,
    /// Folder of the tokenizer, if the recipe names one.
    pub tokenizer: Option<PathBuf>,
    /// The model to train.
    pub model: ModelConfig,
    /// Whether the model's vocabulary is the tokenizer's: when `[model]` does not set `vocab_size`.
    pub vocabulary_of_tokenizer: bool,
    /// How to train it.
    pub train: TrainSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokenizer: Option<PathBuf>,
    model: toml::Table,
    train: TrainSettings,
}

impl Recipe {
    /// Reads a recipe, changes the keys that `overrides` name, and validates it.
    ///
    /// # Errors
    /// [`TrainError::Io`], [`TrainError::Recipe`] or [`TrainError::Value`], with the line at fault, or
    /// [`TrainError::Override`] where the recipe would be valid without the overrides.
    pub fn read(path: &Path, overrides: &[Override]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        Self::parse(&text, path, overrides)
    }

    /// As [`Self::read`] for a recipe's text; `path` is where it stands.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str, path: &Path, overrides: &[Override]) -> Result<Self> {
        Self::parse_with(text, path, overrides).map_err(|error| {
            let at_fault = !overrides.is_empty() && Self::parse_with(text, path, &[]).is_ok();
            match at_fault {
                true => TrainError::Override(Box::new(error)),
                false => error,
            }
        })
    }

    fn parse_with(text: &str, path: &Path, overrides: &[Override]) -> Result<Self> {
        let source = Source::new(text, path, overrides);
        let file: File = source.load()?;
        let base = path.parent().unwrap_or(Path::new(""));
        let recipe = Self {
            tokenizer: file.tokenizer.map(|dir| base.join(dir)),
            preset: file
                .model
                .get("preset")
                .cloned()
                .unwrap_or(toml::Value::Boolean(false)),
            vocabulary_of_tokenizer: !file.model.contains_key("vocab_size"),
            model: model::resolve(file.model, &source)?,
            train: file.train,
            source,
        };
        recipe.validate()?;
        Ok(recipe)
    }

    /// Where it was read from; what errors call it.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// An error about one of its keys, saying where that stands.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> TrainError {
        self.source.value_error(key, problem)
    }

    /// The recipe as it is used, with every key that has a value, as TOML.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] when a value has no form in TOML.
    pub fn resolved(&self) -> Result<String> {
        let error = |reason: String| TrainError::Recipe {
            path: self.path().to_owned(),
            reason,
        };
        let mut model = serde_json::to_value(&self.model).map_err(|e| error(e.to_string()))?;
        drop_nulls(&mut model);
        let mut model = toml::Table::try_from(model).map_err(|e| error(e.to_string()))?;
        model.insert("preset".to_owned(), self.preset.clone());
        let train = toml::Value::try_from(&self.train).map_err(|e| error(e.to_string()))?;
        let mut file = toml::Table::new();
        file.insert("model".to_owned(), model.into());
        file.insert("train".to_owned(), train);
        toml::to_string_pretty(&file).map_err(|e| error(e.to_string()))
    }

    /// Replaces the budget, as command-line options do.
    ///
    /// # Errors
    /// [`TrainError::Value`] for a budget of nothing.
    pub fn set_budget(&mut self, budget: Budget) -> Result<()> {
        let train = &mut self.train;
        (train.steps, train.epochs, train.minutes) = (None, None, None);
        match budget {
            Budget::Steps(steps) => train.steps = Some(steps),
            Budget::Epochs(epochs) => train.epochs = Some(epochs),
            Budget::Minutes(minutes) => train.minutes = Some(minutes),
        }
        self.validate()
    }
}

/// TOML has no null; an absent key means the same here.
fn drop_nulls(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests;
