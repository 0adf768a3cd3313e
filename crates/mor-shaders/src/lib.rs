//! The WGSL of `shaders/`, put together for given shapes, storage and adapter.
//!
//! Each operation is a type with public fields for what its shader is specialised for; `shader(variant)` gives the
//! text. Nothing here knows a graphics interface: the inference engine compiles the text with wgpu, training hands it to
//! Burn, and the tests validate all of it with naga.

mod adapter;
mod attention;
mod copy;
mod decision;
mod element;
mod gelu;
mod linear;
pub mod needs;
mod optimizer;
mod replacement;
mod routing;
mod row_losses;
mod rows;
mod shader;
mod storage;
mod training;
mod variant;

pub use adapter::{MissingSubgroupsError, VARIANT_VARIABLE, may_have_hardware};
pub use attention::Attention;
pub use copy::copy;
pub use decision::{Arguments, Decide, Decision, Dense, Pool, Route};
pub use gelu::Gelu;
pub use linear::{Activation, Matmul, Matvec, Residual, Target};
pub use optimizer::{SUM_SQUARES_CHUNK, adamw, momentum, scaled_sum, sum_squares};
pub use replacement::Replacement;
pub use routing::{Gather, Scatter, select};
pub use row_losses::RowLosses;
pub use rows::{AttentionDecode, Embed, Finish, LayerNorm, Rotary, Sample};
pub use shader::{Binding, MOST_ROUNDS, Shader};
pub use storage::Storage;
pub use training::{ColumnSums, LayerNormTraining, RotaryTraining, chunks};
pub use variant::{ParseVariantError, Variant};
