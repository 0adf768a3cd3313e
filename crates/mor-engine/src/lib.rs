//! Inference without a framework: kernels, routing, caches, sampler and chat session.
//!
//! - [`Model`]: weights, packed once and shared.
//! - [`Decoder`]: a context that grows token by token, with routed depth.
//!
//! Runs on any CPU and, built with `simd128`, in the browser. All arithmetic is f32.

mod cache;
mod cpu;
mod decoder;
mod error;
mod model;
mod pool;
mod random;
mod stage;

pub use cpu::Isa;
pub use decoder::{DecodeOptions, Decoder};
pub use error::{EngineError, Result};
pub use model::{LoadOptions, Model, WeightPrecision};
