//! One module per command: its arguments, and what it does with them.

#[cfg(feature = "model")]
pub(crate) mod bench;
#[cfg(feature = "model")]
pub(crate) mod chat;
#[cfg(feature = "model")]
pub(crate) mod data;
#[cfg(feature = "model")]
mod depth;
#[cfg(feature = "model")]
mod device;
#[cfg(feature = "gpu")]
pub(crate) mod devices;
#[cfg(feature = "train")]
pub(crate) mod eval;
#[cfg(feature = "model")]
pub(crate) mod export;
#[cfg(feature = "train")]
pub(crate) mod frontier;
#[cfg(feature = "train")]
pub(crate) mod gate;
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
#[cfg(feature = "selftest")]
pub(crate) mod selftest;
#[cfg(feature = "serve")]
pub(crate) mod serve;
#[cfg(feature = "model")]
pub(crate) mod tokenizer;
#[cfg(feature = "train")]
pub(crate) mod train;
#[cfg(feature = "train")]
mod training_device;

/// What commands read of a model folder, and so must not write meanwhile.
#[cfg(feature = "model")]
pub(crate) const MODEL_FILES: [&str; 9] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "probe.json",
];

/// What the folder of a tokenizer is written as.
#[cfg(feature = "model")]
pub(crate) const TOKENIZER_FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// The command was used wrongly in a way that the parser of arguments cannot know: exit code 2.
#[cfg(any(feature = "model", feature = "serve"))]
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

#[cfg(any(feature = "model", feature = "serve"))]
impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(any(feature = "model", feature = "serve"))]
impl std::error::Error for Usage {}
