//! One module per command: its arguments, and what it does with them.

#[cfg(feature = "model")]
pub(crate) mod bench;
#[cfg(feature = "model")]
pub(crate) mod chat;
#[cfg(feature = "model")]
pub(crate) mod data;
#[cfg(feature = "train")]
pub(crate) mod eval;
#[cfg(feature = "train")]
pub(crate) mod export;
#[cfg(feature = "model")]
pub(crate) mod generate;
#[cfg(feature = "model")]
mod inference;
#[cfg(feature = "model")]
pub(crate) mod info;
#[cfg(feature = "model")]
pub(crate) mod logits;
#[cfg(feature = "serve")]
pub(crate) mod serve;
#[cfg(feature = "model")]
pub(crate) mod tokenizer;
#[cfg(feature = "train")]
pub(crate) mod train;
