//! Training and evaluation: data order, loss, optimizer, schedule, checkpoints and metrics.
//!
//! [`Trainer`] runs a [`Recipe`] and leaves a run folder: `metrics.jsonl`, `report.html`, TensorBoard's `events`, the
//! newest `checkpoints` and the `best` one, and `model`, which everything else reads. [`evaluate`](evaluate::evaluate) measures
//! any model folder; [`export`](export::export) makes one from a run.

pub mod checkpoint;
pub mod data;
pub mod depth;
mod error;
pub mod evaluate;
pub mod export;
pub mod frontier;
pub mod gate;
pub mod optimizer;
mod ranks;
pub mod recipe;
mod run;
pub mod schedule;
pub mod steps;
mod trainer;

pub use burn::tensor::Device;
pub use error::{Result, TrainError};
pub use mor_model::{ChosenDevice, DeviceChoice, DeviceError, open_device};
pub use ranks::{Alone, Ranks};
pub use recipe::Recipe;
pub use run::RunFolder;
pub use trainer::{Event, Outcome, Paths, Plan, Trainer};
