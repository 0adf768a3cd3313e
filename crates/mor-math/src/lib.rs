//! What must be computed alike everywhere, on a processor and for a GPU, natively and in the browser, in training and
//! when a model runs: numbers drawn from a seed, and angles of positions. It depends on nothing.

mod positions;
mod random;

pub use positions::angle;
pub use random::{SplitMix64, fnv1a};
