//! What must be computed alike everywhere, on a processor and for a GPU, natively and in the browser, in training and
//! when a model runs: vectors of the instruction sets, numbers drawn from a seed, hashes, and angles of positions. It depends on
//! nothing.

mod isa;
mod positions;
mod random;
pub mod simd;

pub use isa::Isa;
pub use positions::angle;
pub use random::{SplitMix64, fnv1a};
