//! What a training run leaves to look at.
//!
//! [`metrics`] defines the lines of `metrics.jsonl`, which everything else is made of. [`write_report`] turns such a
//! file into one self-contained page, [`tensorboard`] writes the same figures as event files for TensorBoard.

mod chart;
mod error;
mod history;
pub mod metrics;
mod metrics_file;
mod number;
mod report;
pub mod tensorboard;

pub use error::{ReportError, Result};
pub use metrics_file::MetricsFile;
pub use report::{RunFacts, write_report};
