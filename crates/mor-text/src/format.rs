//! `tokenizer.json`, as far as BPE goes: byte-level, or character by character as the technical original has it.
//!
//! The `tokenizers` crate can read this file itself, but panics on some damaged ones, and a panic ends the
//! browser's worker. So the file is read and checked here, and the pipeline is built from its parts; other kinds of
//! tokenizer are refused by name.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::SplitDelimiterBehavior;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use crate::normalize::{NormalizerFile, Normalizers};
use crate::pipeline::{Pipeline, Splitter, Step};
use crate::tokenizer::TOKENIZER_FILE;
use crate::{Result, TextError};

/// Longest pattern accepted, in bytes.
const MAX_PATTERN: usize = 2048;
/// Most copies of a part that the counted repetitions of a pattern may ask for: each is compiled.
const MAX_REPETITIONS: u64 = 64;

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

/// How the tokens of a vocabulary spell text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// One printable character for each byte: any text can be spelled.
    Bytes,
    /// As they are, but for these tokens, which stand for something else. Text outside the alphabet is lost.
    Characters(Vec<(String, String)>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) special: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) normalized: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Model {
    pub(crate) vocab: HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    pub(crate) unk_token: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
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

/// What is read first: other kinds have other fields, and errors about those would mislead.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    model: ModelKind,
}

#[derive(Deserialize, Default)]
struct ModelKind {
    #[serde(default, rename = "type")]
    name: Option<String>,
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

impl TokenizerFile {
    /// Reads and checks the file.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let json = without_mark(json);
        let kind: Kind = serde_json::from_slice(json).map_err(|error| {
            let syntax = error.is_syntax() || error.is_eof();
            let what = if syntax {
                "not valid JSON"
            } else {
                "not a byte-level BPE tokenizer"
            };
            unusable(format!("{what}: {error}"))
        })?;
        let kind = kind.model.name.as_deref().unwrap_or("BPE");
        if kind != "BPE" {
            return Err(unusable(format!(
                "the model is {kind}; only byte-level BPE is supported"
            )));
        }
        let file: Self = serde_json::from_slice(json)
            .map_err(|error| unusable(format!("not a byte-level BPE tokenizer: {error}")))?;
        file.spelling()?;
        let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
        if affix(&file.model.continuing_subword_prefix) || affix(&file.model.end_of_word_suffix) {
            return Err(unusable(
                "prefixes and suffixes of subwords are not supported".to_owned(),
            ));
        }
        Ok(file)
    }

    /// How tokens spell text, which the decoder tells: `ByteLevel`, or replacements of whole tokens and then `Fuse`.
    pub(crate) fn spelling(&self) -> Result<Spelling> {
        let kind = |decoder: &Value| decoder["type"].as_str().unwrap_or("of no type").to_owned();
        let decoder = self.decoder.as_ref().unwrap_or(&Value::Null);
        let refuse = |kind: String| {
            let reason = format!("the decoder is {kind}; only byte-level BPE is supported");
            Err(unusable(reason))
        };
        if decoder.is_null() {
            return refuse("none".to_owned());
        }
        match kind(decoder).as_str() {
            "ByteLevel" => return Ok(Spelling::Bytes),
            "Fuse" => return Ok(Spelling::Characters(Vec::new())),
            "Sequence" => {}
            other => return refuse(other.to_owned()),
        }
        let steps = decoder["decoders"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        // `Fuse` only joins what `ByteLevel` would join.
        let is_fuse = |step: &&Value| step["type"] == "Fuse";
        match steps
            .iter()
            .filter(|step| !is_fuse(step))
            .collect::<Vec<_>>()[..]
        {
            [step] if step["type"] == "ByteLevel" => return Ok(Spelling::Bytes),
            _ => {}
        }
        let Some((last, replacements)) = steps.split_last() else {
            return refuse("an empty Sequence".to_owned());
        };
        let mut replaced = Vec::new();
        for step in replacements {
            match (&step["pattern"]["String"], &step["content"]) {
                (Value::String(token), Value::String(text)) if step["type"] == "Replace" => {
                    replaced.push((token.clone(), text.clone()));
                }
                _ => return refuse(format!("a Sequence with {}", kind(step))),
            }
        }
        match kind(last).as_str() {
            "Fuse" => Ok(Spelling::Characters(replaced)),
            other => refuse(format!("a Sequence that ends with {other}")),
        }
    }

    /// What happens to text before it is cut.
    pub(crate) fn normalizers(&self) -> Result<Normalizers> {
        let Some(normalizer) = self.normalizer.as_ref().filter(|value| !value.is_null()) else {
            return Ok(Normalizers::default());
        };
        let refuse = || {
            unusable(format!(
                "the normalizer {} is not supported",
                normalizer["type"]
            ))
        };
        let file = NormalizerFile::deserialize(normalizer).map_err(|_| refuse())?;
        // Any other step could lose text, which byte-level tokenizers promise to keep.
        if self.spelling()? == Spelling::Bytes && !file.keeps_text() {
            return Err(refuse());
        }
        Normalizers::new(&file)
    }

    /// Builds what encodes.
    pub(crate) fn pipeline(&self) -> Result<Pipeline> {
        let spelling = self.spelling()?;
        let mut pipeline = Pipeline::new(self.bpe(&spelling)?);
        let mut steps = Vec::new();
        if let Some(splits) = &self.pre_tokenizer {
            flatten(splits, &spelling, &mut steps)?;
        }
        let bytes = steps.iter().position(|step| matches!(step, Step::Bytes(_)));
        match spelling {
            Spelling::Bytes if bytes.is_none_or(|at| at + 1 != steps.len()) => {
                return Err(unusable(
                    "the pre-tokenizer must end with the only `ByteLevel`".to_owned(),
                ));
            }
            Spelling::Characters(_) if bytes.is_some() => {
                return Err(unusable(
                    "the pre-tokenizer is `ByteLevel`, but the decoder is not".to_owned(),
                ));
            }
            _ => {}
        }
        pipeline.with_pre_tokenizer(Some(Splitter(steps)));
        Ok(pipeline)
    }

    /// The merges over the vocabulary. Dropout, a training device, is ignored.
    fn bpe(&self, spelling: &Spelling) -> Result<BPE> {
        let vocab = &self.model.vocab;
        let unknown = self
            .model
            .unk_token
            .as_ref()
            .filter(|_| *spelling != Spelling::Bytes);
        if *spelling != Spelling::Bytes && !unknown.is_some_and(|token| vocab.contains_key(token)) {
            return Err(unusable(
                "`unk_token` must be in the vocabulary of a tokenizer that is not byte-level"
                    .to_owned(),
            ));
        }
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
        let mut builder = BPE::builder();
        if let Some(token) = unknown {
            builder = builder
                .unk_token(token.clone())
                .fuse_unk(self.model.fuse_unk);
        }
        builder
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
fn flatten(splits: &Splits, spelling: &Spelling, steps: &mut Vec<Step>) -> Result<()> {
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
            // `Removed` drops text. Inverted it drops what the pattern misses, which is nothing in the byte-level
            // tokenizers that use it; `Isolated` then cuts at the same places and keeps the rest.
            let (behavior, invert) = match (*behavior, *invert, spelling) {
                (SplitDelimiterBehavior::Removed, true, Spelling::Bytes) => {
                    (SplitDelimiterBehavior::Isolated, false)
                }
                (SplitDelimiterBehavior::Removed, false, Spelling::Bytes) => {
                    return Err(unusable("the pre-tokenizer removes text".to_owned()));
                }
                (behavior, invert, _) => (behavior, invert),
            };
            if let SplitPattern::Regex(pattern) = pattern {
                check_pattern(pattern)?;
            }
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
                flatten(splits, spelling, steps)?;
            }
        }
    }
    Ok(())
}

/// Refuses patterns that would take long, or much memory, to compile.
pub(crate) fn check_pattern(pattern: &str) -> Result<()> {
    if pattern.len() > MAX_PATTERN {
        return Err(unusable(format!(
            "a pattern has {} bytes; at most {MAX_PATTERN} are accepted",
            pattern.len()
        )));
    }
    let counts = pattern.split('{').skip(1).filter_map(|rest| {
        let (bounds, _) = rest.split_once('}')?;
        let bounds = bounds
            .split(',')
            .map(|bound| bound.trim().parse::<u64>().unwrap_or(0));
        bounds.max().filter(|count| *count > 1)
    });
    let copies = counts.fold(1_u64, u64::saturating_mul);
    if copies > MAX_REPETITIONS {
        return Err(unusable(format!(
            "the repetitions of a pattern ask for {copies} copies; at most {MAX_REPETITIONS} are accepted"
        )));
    }
    Ok(())
}

/// JSON without a byte order mark in front, which some editors write.
pub(crate) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json)
}

pub(crate) fn unusable(reason: String) -> TextError {
    bad(TOKENIZER_FILE, reason)
}

/// An error about one of a tokenizer's two files.
pub(crate) fn bad(file: &'static str, reason: String) -> TextError {
    TextError::Tokenizer { file, reason }
}
