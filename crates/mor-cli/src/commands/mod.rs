//! One module per command: its arguments, and what it does with them.

#[cfg(feature = "model")]
pub(crate) mod bench;
#[cfg(feature = "model")]
pub(crate) mod chat;
#[cfg(feature = "model")]
pub(crate) mod data;
#[cfg(feature = "model")]
mod device;
#[cfg(feature = "gpu")]
pub(crate) mod devices;
#[cfg(feature = "train")]
pub(crate) mod eval;
#[cfg(feature = "model")]
pub(crate) mod export;
#[cfg(feature = "model")]
pub(crate) mod generate;
#[cfg(feature = "model")]
pub(crate) mod import;
#[cfg(feature = "model")]
mod inference;
#[cfg(feature = "model")]
pub(crate) mod info;
#[cfg(feature = "model")]
pub(crate) mod logits;
#[cfg(feature = "model")]
mod probe;
#[cfg(feature = "train")]
mod ranks;
#[cfg(feature = "serve")]
pub(crate) mod serve;
#[cfg(feature = "model")]
pub(crate) mod tokenizer;
#[cfg(feature = "train")]
pub(crate) mod train;
#[cfg(feature = "train")]
mod training_device;

/// The command was used wrongly in a way that the parser of arguments cannot know: exit code 2.
#[cfg(feature = "model")]
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

#[cfg(feature = "model")]
impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "model")]
impl std::error::Error for Usage {}
