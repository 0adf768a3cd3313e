//! The operations a model is made of, a folder or a file each, with all its forms side by side:
//!
//! - `mod.rs`: the function, which takes the form that fits its operands' device and precision;
//! - `composed.rs`: Burn's own operations, for any device and precision: the reference that the others are tested against;
//! - `cpu.rs`: kernels of `mor-kernels`, for f32;
//! - `gpu.rs`: shaders of `mor-shaders`, for f32 and f16;
//! - `autodiff.rs`: the backward pass, where CPU and GPU share it; else each has its own.
//!
//! | operation | CPU | GPU |
//! |---|---|---|
//! | `attention`, `layer_norm`, `rotary`, `rows` | kernels | shaders |
//! | `linear` | kernels | Burn's product; shaders for the gradient of the bias |
//! | `gelu` (a linear layer and the GELU behind it) | kernels | Burn's product; shaders for bias and GELU |
//! | `cross_entropy` (of an output head) | kernels | Burn's product; shaders for the losses of its rows |
//! | `embedding`, `dropout` | kernels | composed |
//! | `update` (what optimizers do) | composed | shaders |
//!
//! Operations import `backend`, which all share, and where one builds on another (`gelu` on `linear`), that one. Nothing
//! here imports the model.

mod attention;
pub(crate) mod backend;
pub mod composed;
mod cross_entropy;
mod dropout;
mod embedding;
mod gelu;
mod layer_norm;
mod linear;
mod rotary;
mod rows;
pub mod update;

pub use attention::causal_attention;
pub use backend::is_cpu;
pub use cross_entropy::{RowLosses, linear_cross_entropy};
pub use dropout::dropout;
pub use embedding::embedding;
pub use gelu::linear_gelu;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use rotary::{Positions, rotary};
pub use rows::{gather_rows, scatter_rows, select_rows};
