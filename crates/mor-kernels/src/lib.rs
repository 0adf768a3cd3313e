//! CPU kernels of the transformer, forward and backward, free of any framework.
//!
//! Every function works on plain `f32` slices, row-major and contiguous. The caller allocates the
//! outputs; they are overwritten unless the documentation says *accumulated*. Shapes are written
//! `[batch, seq, dim]`; where a kernel does not care about sequences, all positions are *rows*.
//!
//! Results do not depend on the number of threads: work is divided over outputs, and the few
//! reductions over rows use chunks of a constant size that are added in order.
//!
//! # Panics
//! A slice whose length does not fit the given shape is a programming error and panics with a
//! message that names the argument. Nothing else here panics.

mod attention;
mod attention_kernel;
mod attention_pack;
mod attention_softmax;
mod check;
mod cross_entropy;
mod dispatch;
mod dropout;
mod embedding;
mod gelu;
mod isa;
mod layer_norm;
mod linear;
mod math;
mod matmul;
#[cfg(target_arch = "x86_64")]
mod matmul_bf16;
mod matmul_pack;
mod matmul_tile;
mod muon;
mod optimizer;
mod precision;
mod profile;
mod reduce;
mod rotary;
mod scratch;

pub use attention::{AttentionShape, causal_attention_backward, causal_attention_forward};
pub use cross_entropy::{
    CrossEntropyShape, LossSum, TokenId, linear_cross_entropy, linear_cross_entropy_forward,
};
pub use dropout::dropout;
pub use embedding::embedding_backward;
pub use gelu::{gelu_backward, gelu_forward};
pub use isa::{current_isa, with_isa};
pub use layer_norm::{layer_norm_backward, layer_norm_forward};
pub use linear::{
    LinearShape, linear_backward_bias, linear_backward_input, linear_backward_weight,
    linear_backward_weight_accumulate, linear_forward, linear_gelu_forward,
};
pub use mor_math::Isa;
pub use muon::muon_orthogonalize;
pub use optimizer::{AdamW, AdamWFactors, adamw_step, sum_squares};
pub use precision::MatmulPrecision;
pub use profile::{Kernel, start_profile, stop_profile};
pub use rotary::{rotary_backward, rotary_forward};
