//! What happens to text before it is cut into words.

use std::borrow::Cow;

use serde::Deserialize;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NFC, NFKC, Replace};
use tokenizers::{NormalizedString, Normalizer};

use crate::format::{check_pattern, unusable};
use crate::{Result, TextError};

/// A normalizer as `tokenizer.json` has it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum NormalizerFile {
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFKC")]
    Nfkc,
    Replace {
        pattern: ReplacePattern,
        content: String,
    },
    Sequence {
        normalizers: Vec<NormalizerFile>,
    },
}

impl NormalizerFile {
    /// Whether the text stays the same to a reader: nothing, or only composed characters.
    pub(crate) fn keeps_text(&self) -> bool {
        match self {
            Self::Nfc => true,
            Self::Sequence { normalizers } => normalizers.iter().all(Self::keeps_text),
            Self::Nfkc | Self::Replace { .. } => false,
        }
    }
}

/// Steps in order.
#[derive(Debug, Default)]
pub(crate) struct Normalizers(Vec<Step>);

#[derive(Debug)]
enum Step {
    Nfc(NFC),
    Nfkc(NFKC),
    Replace(Box<Replace>),
}

impl Normalizers {
    pub(crate) fn new(file: &NormalizerFile) -> Result<Self> {
        let mut steps = Vec::new();
        flatten(file, &mut steps)?;
        Ok(Self(steps))
    }

    /// The text after all steps.
    pub(crate) fn apply<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        if self.0.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        Ok(Cow::Owned(self.normalize(text)?.get().to_owned()))
    }

    /// True if there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text after all steps, which knows where each of its characters comes from.
    pub(crate) fn normalize(&self, text: &str) -> Result<NormalizedString> {
        let mut normalized = NormalizedString::from(text);
        for step in &self.0 {
            let done = match step {
                Step::Nfc(step) => step.normalize(&mut normalized),
                Step::Nfkc(step) => step.normalize(&mut normalized),
                Step::Replace(step) => step.normalize(&mut normalized),
            };
            done.map_err(|error| TextError::Encode {
                reason: error.to_string(),
            })?;
        }
        Ok(normalized)
    }
}

fn flatten(file: &NormalizerFile, steps: &mut Vec<Step>) -> Result<()> {
    match file {
        NormalizerFile::Nfc => steps.push(Step::Nfc(NFC)),
        NormalizerFile::Nfkc => steps.push(Step::Nfkc(NFKC)),
        NormalizerFile::Replace { pattern, content } => {
            let (ReplacePattern::Regex(source) | ReplacePattern::String(source)) = pattern;
            if source.is_empty() {
                return Err(unusable("a normalizer replaces nothing".to_owned()));
            }
            if let ReplacePattern::Regex(source) = pattern {
                check_pattern(source)?;
            }
            let replace = Replace::new(pattern.clone(), content.as_str()).map_err(|error| {
                unusable(format!("a pattern of the normalizer is malformed: {error}"))
            })?;
            steps.push(Step::Replace(Box::new(replace)));
        }
        NormalizerFile::Sequence { normalizers } => {
            for file in normalizers {
                flatten(file, steps)?;
            }
        }
    }
    Ok(())
}
