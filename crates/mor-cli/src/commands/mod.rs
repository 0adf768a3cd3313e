//! One module per command: its arguments, and what it does with them.

pub(crate) mod data;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod tokenizer;
