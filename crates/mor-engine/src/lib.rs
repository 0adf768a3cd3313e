//! Inference without a framework: kernels, routing, caches, sampler and chat session.
//!
//! - [`Model`]: weights, packed once and shared.
//! - [`Decoder`]: a context that grows token by token, with routed depth.
//! - [`Context`]: the same on any device.
//! - [`Sampler`] and [`Generator`]: token after token, until something says stop.
//! - [`Probe`]: whether a device computes what the CPU does.
//! - [`ChatSession`]: messages in, streamed text out.
//!
//! Runs on any CPU and, built with `simd128`, in the browser. Arithmetic is f32, but for products with int8 weights.
//!
//! Inside, each part knows those before it: `model` (what a model is made of) and `history` (what a context holds, and what
//! of it is reused); `cpu` and `gpu`, which do not know each other and only compute; `context`, which is either, and its
//! probe; `generate`; `chat`.

mod chat;
mod choice;
mod context;
mod cpu;
mod error;
mod generate;
mod generation_config;
#[cfg(feature = "gpu")]
pub mod gpu;
mod history;
#[cfg(not(target_arch = "wasm32"))]
mod measure;
mod model;
mod options;

/// How fast the CPU decodes.
#[cfg(not(target_arch = "wasm32"))]
pub mod bench {
    pub use crate::cpu::bench::{BenchReport, BenchRun, decode};
    pub use crate::measure::{BenchOptions, Memory};
}

pub use chat::{ChatOptions, ChatSession, Piece, Reply, Started};
pub use choice::{Choice, SamplingOptions};
pub use context::{Context, PROBE_FILE, Probe, ProbeOutcome};
pub use cpu::{Decoder, LoadOptions, Model, Sampler};
pub use error::{EngineError, Result};
pub use generate::{FinishReason, GenerateOptions, GeneratedToken, Generator, Overflow};
pub use generation_config::{GENERATION_FILE, GenerationConfig, GenerationDefaults};
pub use model::WeightPrecision;
pub use mor_math::Isa;
pub use options::{DecodeOptions, Routing};
