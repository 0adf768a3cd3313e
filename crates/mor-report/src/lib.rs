//! What a training run leaves to look at.
//!
//! [`metrics`] defines the lines of `metrics.jsonl`, which [`MetricsFile`] writes.

mod atomic;
mod error;
pub mod metrics;
mod metrics_file;

pub use error::{ReportError, Result};
pub use metrics_file::MetricsFile;
