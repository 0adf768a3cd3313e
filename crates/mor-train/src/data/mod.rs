//! Token sequences in memory, and the order in which they are trained on.

mod batch;
mod dataset;
mod order;

pub use batch::{Batch, IGNORE};
pub use dataset::{Dataset, Overlong};
pub use order::{epoch_batches, length_batches};
