//! The WGSL of `shaders/`, put together for given shapes, storage and adapter.
//!
//! Each operation is a type with public fields for what its shader is specialised for; `shader(variant)` gives the
//! text. Nothing here knows a graphics interface: the inference engine compiles the text with wgpu, training hands it to
//! Burn, and the tests validate all of it with naga.

mod attention;
mod element;
mod layer_norm;
mod routing;
mod shader;
mod variant;

pub use attention::Attention;
pub use layer_norm::LayerNorm;
pub use routing::{Gather, Scatter, Select};
pub use shader::Shader;
pub use variant::{ParseVariantError, Variant};
