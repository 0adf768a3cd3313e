//! The technical mixture-of-recursions model in Burn: what training and evaluation run, and the
//! reference that the inference engine is checked against.
//!
//! ```text
//! x = LN(token[ids] + position)                               embedding.rs
//! each layer:  depth = router(mean of x)  or  a fixed number  router.rs, layer.rs
//!   for each of its steps s:
//!     z = projection_s(x)
//!     x = LN1(x + attention(z))                               attention.rs
//!     x = LN2(x + feed_forward(x))                            feed_forward.rs
//! logits = head(LN(x))                                        model.rs
//! ```
//!
//! Shapes are written `[batch, seq, dim]`. On the CPU ([`burn::tensor::Device::flex`]) the heavy
//! operations run on the kernels of `mor-kernels` with hand-written gradients; on any other device
//! they are composed from Burn's own operations ([`ops`]).

mod attention;
mod embedding;
mod error;
mod feed_forward;
mod init;
mod layer;
mod model;
mod modules;
pub mod ops;
mod parameters;
mod router;

pub use attention::Attention;
pub use embedding::{Embeddings, PositionTable};
pub use error::ModelError;
pub use feed_forward::FeedForward;
pub use layer::Layer;
pub use model::{ForwardOptions, Output, TechnicalModel};
pub use modules::{LayerNorm, Linear, Table};
pub use parameters::{Parameter, recycle_gradients};
pub use router::{Router, Routing};
