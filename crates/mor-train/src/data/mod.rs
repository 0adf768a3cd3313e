//! Token sequences, the batches made of them, and the order in which they are trained on.

mod batch;
mod dataset;
mod fit;
mod order;

pub use batch::{Batch, IGNORE, Targets};
pub use dataset::{Dataset, Overlong, Reading, Row};
pub use fit::Fit;
pub use order::{Order, measured_batches, sampled_batches};
