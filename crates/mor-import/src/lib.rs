//! Model folders from the checkpoints of other programs.
//!
//! - [`Checkpoint`]: the named tensors of a `.safetensors` or `.pt` file.
//! - [`technical`] and [`conversational`]: the configuration that follows from a checkpoint's shapes.
//! - [`save_model`]: its weights, checked against that configuration, in any [`mor_config::Precision`].
//! - [`convert`]: the same for a folder that is already ours.
//!
//! Checkpoints are untrusted: nothing in them is executed, and nothing is reserved for what they claim before the
//! claim is compared with the size of the file.

mod checkpoint;
mod convert;
mod error;
mod infer;
mod part;
mod pt;

pub use checkpoint::Checkpoint;
pub use convert::{convert, save_model};
pub use error::ImportError;
pub use infer::{ConversationalOptions, TechnicalOptions, conversational, technical};
pub use pt::PtFile;
