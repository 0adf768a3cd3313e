//! Tokenizer, chat template, dataset readers and filters.
//!
//! - [`Tokenizer`]: byte-level BPE. Any UTF-8 text survives `encode` → `decode` byte for byte, and text never
//!   becomes a special token: only the chat template writes those, so nobody can forge a turn.
//! - [`import_tokenizer`]: the same from the files of other programs: GPT-2's, and the technical original's, which is
//!   not byte-level and loses text.
//! - [`TokenStream`]: whole characters out of tokens that arrive one at a time.
//! - [`train_tokenizer`]: learns a vocabulary from plain text and conversations.
//! - [`data`]: streaming readers for published datasets and the filters that select training rows.
//! - [`tokens`]: files of token ids that are mapped into memory, so that training starts at once.
//!
//! The `fs` feature (default) adds everything that touches files or threads. Without it the crate builds for
//! `wasm32-unknown-unknown`.

mod added;
mod bytes;
mod error;
mod format;
mod message;
mod normalize;
mod pipeline;
mod special;
mod stream;
mod template;
mod tokenizer;
mod vocabulary;

pub mod data;

#[cfg(feature = "fs")]
pub mod tokens;

#[cfg(feature = "fs")]
mod import;
#[cfg(feature = "fs")]
mod threads;
#[cfg(feature = "fs")]
mod train;

pub use error::{Result, TextError};
#[cfg(feature = "fs")]
pub use import::{ImportReport, import_tokenizer};
pub use message::{Conversation, Message, Role};
pub use special::{DEFAULT_CHAT_TEMPLATE, SPECIAL_TOKENS};
pub use stream::TokenStream;
#[cfg(feature = "fs")]
pub use threads::bound_threads;
#[cfg(feature = "fs")]
pub use tokenizer::OLDER_FILES;
pub use tokenizer::{CONFIG_FILE, TEMPLATE_FILE, TOKENIZER_FILE, Tokenizer};
#[cfg(feature = "fs")]
pub use train::{TrainOptions, TrainReport, train_tokenizer};
