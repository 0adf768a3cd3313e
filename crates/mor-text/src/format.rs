//! `tokenizer.json`, as far as byte-level BPE goes.
//!
//! The `tokenizers` crate can read this file itself, but panics on some damaged ones, and a panic ends the
//! browser's worker. So the file is read and checked here, and the pipeline is built from its parts; kinds of
//! tokenizer that would lose text are refused by name.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizedString, PreTokenizer, SplitDelimiterBehavior, TokenizerImpl};

use crate::tokenizer::TOKENIZER_FILE;
use crate::{Result, TextError};

/// Text to ids: optional NFC, splits, merges. Without added tokens, so all it can produce is text.
pub(crate) type Pipeline = TokenizerImpl<BPE, NFC, Splitter, ByteLevel, ByteLevel>;

/// The parts of the file that matter here.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizerFile {
    #[serde(default)]
    pub(crate) added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Option<Value>,
    #[serde(default)]
    pre_tokenizer: Option<Splits>,
    #[serde(default)]
    decoder: Option<Value>,
    pub(crate) model: Model,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) special: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Model {
    pub(crate) vocab: HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: Option<bool>,
}

/// A merge in either notation: `"Ġ t"` or `["Ġ", "t"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// How text is cut before merging.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum Splits {
    ByteLevel {
        #[serde(default = "yes")]
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Split {
        pattern: SplitPattern,
        behavior: SplitDelimiterBehavior,
        #[serde(default)]
        invert: bool,
    },
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Sequence {
        pretokenizers: Vec<Splits>,
    },
}

fn yes() -> bool {
    true
}

/// The steps that cut a text into the words merges work on, the last of which writes bytes as characters.
#[derive(Debug)]
pub(crate) struct Splitter(Vec<Step>);

#[derive(Debug)]
enum Step {
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

impl TokenizerFile {
    /// Reads and checks the file.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| unusable(format!("not valid JSON: {error}")))?;
        // Named first, since other kinds have other fields, and errors about those would mislead.
        let kind = value["model"]["type"].as_str().unwrap_or("BPE");
        if kind != "BPE" {
            return Err(unusable(format!(
                "the model is {kind}; only byte-level BPE is supported"
            )));
        }
        let file: Self = serde_json::from_value(value)
            .map_err(|error| unusable(format!("not a byte-level BPE tokenizer: {error}")))?;
        let decoder = file.decoder.as_ref().map_or("none", |decoder| {
            decoder["type"].as_str().unwrap_or("of no type")
        });
        if decoder != "ByteLevel" {
            return Err(unusable(format!(
                "the decoder is {decoder}; only byte-level BPE is supported"
            )));
        }
        let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
        if affix(&file.model.continuing_subword_prefix) || affix(&file.model.end_of_word_suffix) {
            return Err(unusable(
                "prefixes and suffixes of subwords are not supported".to_owned(),
            ));
        }
        Ok(file)
    }

    /// Builds what encodes.
    pub(crate) fn pipeline(&self) -> Result<Pipeline> {
        let mut pipeline = Pipeline::new(self.bpe()?);
        match &self.normalizer {
            None | Some(Value::Null) => {}
            Some(normalizer) if normalizer["type"] == "NFC" => {
                pipeline
                    .with_normalizer(Some(NFC))
                    .map_err(|error| unusable(error.to_string()))?;
            }
            Some(normalizer) => {
                return Err(unusable(format!(
                    "the normalizer {} is not supported",
                    normalizer["type"]
                )));
            }
        }
        let mut steps = Vec::new();
        if let Some(splits) = &self.pre_tokenizer {
            flatten(splits, &mut steps)?;
        }
        let bytes = steps.iter().position(|step| matches!(step, Step::Bytes(_)));
        if bytes.is_none_or(|at| at + 1 != steps.len()) {
            return Err(unusable(
                "the pre-tokenizer must end with the only `ByteLevel`".to_owned(),
            ));
        }
        pipeline.with_pre_tokenizer(Some(Splitter(steps)));
        Ok(pipeline)
    }

    /// The merges over the vocabulary. Dropout, a training device, is ignored.
    fn bpe(&self) -> Result<BPE> {
        let vocab = &self.model.vocab;
        let mut merges = Vec::with_capacity(self.model.merges.len());
        for merge in &self.model.merges {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                // Lists that come from merges.txt may keep its heading.
                Merge::Line(line) if line.starts_with("#version") => continue,
                Merge::Line(line) => line
                    .split_once(' ')
                    .ok_or_else(|| unusable(format!("{line:?} is not a merge")))?,
            };
            for part in [left, right, &format!("{left}{right}")] {
                if !vocab.contains_key(part) {
                    return Err(unusable(format!(
                        "the merge of {left:?} and {right:?} needs {part:?}, which is not in the vocabulary"
                    )));
                }
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        let vocab: Vec<(String, u32)> = vocab
            .iter()
            .map(|(token, &id)| (token.clone(), id))
            .collect();
        BPE::builder()
            .vocab_and_merges(
                vocab
                    .into_iter()
                    .collect::<tokenizers::models::bpe::Vocab>(),
                merges,
            )
            .ignore_merges(self.model.ignore_merges.unwrap_or(false))
            .build()
            .map_err(|error| unusable(error.to_string()))
    }
}

/// Appends the steps of `splits` in order.
fn flatten(splits: &Splits, steps: &mut Vec<Step>) -> Result<()> {
    match splits {
        Splits::ByteLevel {
            add_prefix_space,
            use_regex,
        } => {
            steps.push(Step::Bytes(ByteLevel::new(
                *add_prefix_space,
                false,
                *use_regex,
            )));
        }
        Splits::Split {
            pattern,
            behavior,
            invert,
        } => {
            // `Removed` drops text. Inverted it drops what the pattern misses, which is nothing in the tokenizers that
            // use it; `Isolated` then cuts at the same places and keeps the rest.
            let (behavior, invert) = match (*behavior, *invert) {
                (SplitDelimiterBehavior::Removed, true) => {
                    (SplitDelimiterBehavior::Isolated, false)
                }
                (SplitDelimiterBehavior::Removed, false) => {
                    return Err(unusable("the pre-tokenizer removes text".to_owned()));
                }
                kept => kept,
            };
            let split = Split::new(pattern.clone(), behavior, invert).map_err(|error| {
                unusable(format!(
                    "a pattern of the pre-tokenizer is malformed: {error}"
                ))
            })?;
            steps.push(Step::Split(split));
        }
        Splits::Digits { individual_digits } => {
            steps.push(Step::Digits(Digits::new(*individual_digits)))
        }
        Splits::Sequence { pretokenizers } => {
            for splits in pretokenizers {
                flatten(splits, steps)?;
            }
        }
    }
    Ok(())
}

fn unusable(reason: String) -> TextError {
    bad(TOKENIZER_FILE, reason)
}

/// An error about one of a tokenizer's two files.
pub(crate) fn bad(file: &'static str, reason: String) -> TextError {
    TextError::Tokenizer { file, reason }
}
