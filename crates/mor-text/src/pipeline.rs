//! From text to ids: splits, then merges.

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::{PreTokenizedString, PreTokenizer, TokenizerImpl};

/// Text to ids. Without added tokens, so all it can produce is text. Its normalizer stays unset: added tokens are
/// looked for between normalizing and splitting.
pub(crate) type Pipeline = TokenizerImpl<BPE, NFC, Splitter, ByteLevel, ByteLevel>;

/// The steps that cut a text into the words merges work on; in byte-level tokenizers the last writes bytes as
/// characters.
#[derive(Debug)]
pub(crate) struct Splitter(pub(crate) Vec<Step>);

#[derive(Debug)]
pub(crate) enum Step {
    Split(Split),
    Digits(Digits),
    Bytes(ByteLevel),
}

impl PreTokenizer for Splitter {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        self.0.iter().try_for_each(|step| match step {
            Step::Split(step) => step.pre_tokenize(text),
            Step::Digits(step) => step.pre_tokenize(text),
            Step::Bytes(step) => step.pre_tokenize(text),
        })
    }
}
