//! Token files: the ids of many documents, tokenized once and then mapped into memory.
//!
//! A file holds, little-endian and in this order:
//!
//! | part | bytes | holds |
//! |---|---|---|
//! | header | 160 | magic, version, counts, checksums; see `header.rs` |
//! | ids | 2 or 4 a token | ids of all documents one after another: `u16` if the vocabulary allows, else `u32` |
//! | learned | 1 bit a token | whether a model learns to write the token |
//! | index | 16 a document | where its tokens end (`u64`), its text's bytes (`u32`), source (`u16`), kind (`u16`) |
//! | metadata | the rest | JSON: names of the sources, the files that were read, what was left out |
//!
//! Ids and learned bits are padded with zeros to a multiple of eight bytes. The length of each part follows
//! from the header's counts, so a file of any other length is refused.

mod file;
mod header;
mod metadata;
mod tokenize;
mod writer;

pub use file::TokenFile;
pub(crate) use header::MAGIC;
pub use metadata::Origin;
pub use tokenize::{DocumentWriter, TokenizeOptions, TokenizeProgress, TokenizeReport, tokenize};
pub use writer::{EncodedDocument, TokenFileWriter};
