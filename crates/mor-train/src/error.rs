//! What can go wrong in training: each variant names the file, what was found and what to do.

use std::path::{Path, PathBuf};

/// The result of every fallible operation of this crate.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// An error of training or evaluation.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The operating system refused a read or a write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A recipe is not TOML of the expected shape.
    #[error("{}: {reason}", path.display())]
    Recipe {
        /// The recipe's file.
        path: PathBuf,
        /// Where parsing stopped, and why.
        reason: String,
    },
    /// A recipe's value is out of range or contradicts another.
    #[error("{}: {}`{key}` {problem}", path.display(), colon(place))]
    Value {
        /// The recipe's file.
        path: PathBuf,
        /// The line or the option that it stands on; empty where it stands nowhere.
        place: String,
        /// The key as it stands in the file.
        key: String,
        /// What was found and what is allowed.
        problem: String,
    },
    /// A key that was changed on the command line has a value that it cannot have; the recipe by itself is valid.
    #[error(transparent)]
    Override(Box<TrainError>),
    /// The data cannot be trained on or measured.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The data file.
        path: PathBuf,
        /// What was found and what is expected.
        problem: String,
    },
    /// The tokenizer does not belong to the model.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// The tokenizer's folder.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// A run's folder cannot be used as asked.
    #[error("{}: {problem}", path.display())]
    Run {
        /// The run's folder.
        path: PathBuf,
        /// What was found and what to do.
        problem: String,
    },
    /// A checkpoint is damaged or belongs to another recipe.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The checkpoint's folder or file.
        path: PathBuf,
        /// What was found and what to do.
        problem: String,
    },
    /// The loss or the gradient stopped being a number.
    #[error(
        "loss or gradient was not a finite number in {count} steps in a row, last in step {step}{batch}; \
         --resume would repeat that: lower train.lr, and start again with another --output{weights}"
    )]
    Diverged {
        /// Steps in a row that had to be skipped.
        count: u32,
        /// The last of them.
        step: u64,
        /// Where the batch of that step was saved, if it could be.
        batch: String,
        /// How to start from the weights of a checkpoint, if there is one.
        weights: String,
    },
    /// Not one step could be taken.
    #[error(
        "nothing was learned: each of {steps} steps was skipped, since its loss or gradient was not a finite number; \
         no model was written; {remedy}, with another --output"
    )]
    NothingLearned {
        /// Steps of the run.
        steps: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// What was measured is not a number.
    #[error("{}: the loss is not a finite number: the weights give no usable results", model.display())]
    NotFinite {
        /// The model's folder.
        model: PathBuf,
    },
    /// The processes that train together lost touch.
    #[error("process {rank}: {problem}")]
    Ranks {
        /// The process that noticed.
        rank: usize,
        /// What happened.
        problem: String,
    },
    /// A depth was asked for that the model cannot take.
    #[error("{0}")]
    Depth(String),
    /// The configuration or the weights file.
    #[error(transparent)]
    Config(#[from] mor_config::ConfigError),
    /// The tokenizer or a dataset.
    #[error(transparent)]
    Text(#[from] mor_text::TextError),
    /// Metrics, events or the report.
    #[error(transparent)]
    Report(#[from] mor_report::ReportError),
    /// The device.
    #[error(transparent)]
    Device(#[from] mor_model::DeviceError),
    /// The model.
    #[error(transparent)]
    Model(#[from] mor_model::ModelError),
}

/// A place before what is said about it.
fn colon(place: &str) -> String {
    if place.is_empty() {
        String::new()
    } else {
        format!("{place}: ")
    }
}

impl TrainError {
    /// Wraps an I/O error with the path it is about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl From<mor_files::FileError> for TrainError {
    fn from(error: mor_files::FileError) -> Self {
        Self::Io {
            path: error.path,
            source: error.source,
        }
    }
}
