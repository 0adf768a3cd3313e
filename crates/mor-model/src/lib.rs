//! The families of mixture-of-recursions models in Burn: what training and evaluation run, and the reference
//! that the inference engine is checked against.
//!
//! ```text
//! technical                                                        conversational
//! x = LN(token[ids] + position)                embedding.rs        x = token[ids]
//! each layer:                                  body.rs             each block:
//!   depth = router(mean of x)                  router.rs             x = x + attention(LN1(x))       block.rs
//!   for each of its steps s:                   recursion.rs          x = x + feed_forward(LN2(x))
//!     z = projection_s(x)                      layer.rs            depth = router(mean of x)
//!     x = LN1(x + attention(z))                attention.rs        as often as depth says:
//!     x = LN2(x + feed_forward(x))             feed_forward.rs       the same with one shared block
//! logits = head(LN(x))                         model.rs            logits = head(LN(x))
//! ```
//!
//! Shapes are written `[batch, seq, dim]`. On the CPU ([`burn::tensor::Device::flex`]) the heavy operations run on
//! the kernels of `mor-kernels` with hand-written gradients; on a GPU attention, layer norm, rotary positions, GELU, the
//! cross-entropy and routing run on the shaders of `mor-shaders`, and the others are composed from Burn's own operations
//! ([`ops`]).

mod attention;
mod block;
mod body;
mod builder;
mod device;
mod embedding;
mod error;
mod feed_forward;
mod gate;
mod gathered;
#[cfg(feature = "gpu")]
pub mod gpu;
mod init;
mod layer;
mod mode;
mod model;
mod modules;
mod objective;
pub mod operations;
pub mod ops;
mod parameters;
mod pooling;
mod recursion;
mod recursive;
mod router;

pub use attention::Attention;
pub use block::Block;
pub use body::{Body, Conversational};
pub use device::{ChosenDevice, DeviceChoice, open_device, supports_half};
pub use embedding::{EmbeddingBand, Embeddings, PositionTable, TokenEmbedding};
pub use error::{DeviceError, ModelError};
pub use feed_forward::FeedForward;
pub use gate::Gate;
pub use layer::Layer;
pub use mode::Mode;
pub use model::{ForwardOptions, Model, Output};
pub use modules::{LayerNorm, Linear, Table};
pub use mor_kernels::MatmulPrecision;
pub use objective::{Losses, RouterLoss};
pub use parameters::{Parameter, read_together, recycle_gradients};
pub use recursive::Recursive;
pub use router::{Router, Routing};
