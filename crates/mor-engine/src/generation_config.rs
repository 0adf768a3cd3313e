//! `generation_config.json`: how a model's authors would have it sampled, and where its answers end.
//!
//! Read as Hugging Face's transformers reads it, by the command line and the page alike:
//! - Without `do_sample: true` decoding is greedy, whatever `temperature` says.
//! - With it, what is not given is `temperature` 1, `top_k` 50 and `top_p` 1.
//! - `null` is the same as absent, and a missing file as an empty one. Other keys are ignored.
//! - `max_length` bounds a text with its prompt, which the context does here; only `max_new_tokens` counts.

use std::path::Path;

use mor_config::ConfigError;
use serde::{Deserialize, Serialize};

use crate::{EngineError, Result, SamplingOptions};

/// File name of the generation defaults inside a model folder.
pub const GENERATION_FILE: &str = "generation_config.json";

/// `top_k` of who samples and does not say it.
const TOP_K: usize = 50;

/// What a `generation_config.json` says, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationConfig {
    defaults: GenerationDefaults,
    end_ids: Vec<u32>,
}

/// The options it gives, `None` where it leaves them to whoever generates.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct GenerationDefaults {
    /// 0 without `do_sample`; `None` only where there is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// See [`SamplingOptions::top_k`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// See [`SamplingOptions::top_p`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// See [`SamplingOptions::repetition_penalty`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    /// Most tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
}

/// The file's keys.
#[derive(Deserialize)]
struct File {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    repetition_penalty: Option<f32>,
    max_new_tokens: Option<usize>,
    eos_token_id: Option<Ends>,
}

/// One end token or several, as other programs write either. Negative ones stand for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ends {
    One(i64),
    Several(Vec<i64>),
}

impl GenerationConfig {
    /// Reads the text of a file; `origin` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError::Json`] or [`ConfigError::Field`].
    pub fn from_json(text: &[u8], origin: &Path) -> Result<Self> {
        let path = || origin.to_owned();
        let file: File = serde_json::from_slice(mor_config::without_byte_order_mark(text))
            .map_err(|source| ConfigError::Json {
                path: path(),
                source,
            })?;
        let sampled = file.do_sample == Some(true);
        let defaults = GenerationDefaults {
            temperature: Some(match sampled {
                true => file.temperature.unwrap_or(1.0),
                false => 0.0,
            }),
            top_k: file.top_k.or(sampled.then_some(TOP_K)),
            top_p: file.top_p.or(sampled.then_some(1.0)),
            repetition_penalty: file.repetition_penalty,
            max_new_tokens: file.max_new_tokens,
        };
        let field = |field, problem| ConfigError::Field {
            path: path(),
            field,
            problem,
        };
        match defaults.sampling().validate() {
            Err(EngineError::Option {
                option,
                value,
                allowed,
            }) => {
                let problem = format!("is {value}; it must be {allowed}");
                return Err(field(option, problem).into());
            }
            other => other?,
        }
        if defaults.max_new_tokens == Some(0) {
            return Err(field("max_new_tokens", "is 0; it must be above 0".to_owned()).into());
        }
        let ends = match file.eos_token_id {
            None => Vec::new(),
            Some(Ends::One(id)) => vec![id],
            Some(Ends::Several(ids)) => ids,
        };
        let ends = ends.into_iter().filter_map(|id| u32::try_from(id).ok());
        Ok(Self {
            defaults,
            end_ids: ends.collect(),
        })
    }

    /// What the file of a model's folder says; nothing where it has none.
    ///
    /// # Errors
    /// As [`Self::from_json`], or [`ConfigError::Io`].
    #[cfg(feature = "fs")]
    pub fn from_dir(folder: &Path) -> Result<Self> {
        let path = folder.join(GENERATION_FILE);
        match std::fs::read(&path) {
            Ok(text) => Self::from_json(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Io { path, source }.into()),
        }
    }

    /// The options it gives.
    pub fn defaults(&self) -> GenerationDefaults {
        self.defaults
    }

    /// Tokens that end an answer, beside those of the tokenizer.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }
}

impl GenerationDefaults {
    /// How to sample by them: greedily, and of all tokens, where they say nothing.
    pub fn sampling(&self) -> SamplingOptions {
        let greedy = SamplingOptions::default();
        SamplingOptions {
            temperature: self.temperature.unwrap_or(greedy.temperature),
            top_k: self.top_k.unwrap_or(greedy.top_k),
            top_p: self.top_p.unwrap_or(greedy.top_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(greedy.repetition_penalty),
            seed: greedy.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GenerationConfig> {
        GenerationConfig::from_json(text.as_bytes(), Path::new(GENERATION_FILE))
    }

    /// What the page gets, and by which the command line samples.
    fn check(text: &str, defaults: &str, sampling: (f32, usize, f32, f32)) {
        let config = read(text).expect(text);
        let json = serde_json::to_string(&config.defaults()).expect("plain data");
        assert_eq!(json, defaults, "{text}");
        let options = config.defaults().sampling();
        let SamplingOptions {
            temperature,
            top_k,
            top_p,
            repetition_penalty,
            ..
        } = options;
        assert_eq!(
            (temperature, top_k, top_p, repetition_penalty),
            sampling,
            "{text}"
        );
    }

    #[test]
    fn sampling_is_asked_for_by_do_sample_and_by_nothing_else() {
        let greedy = (0.0, 0, 1.0, 1.0);
        check("{}", r#"{"temperature":0.0}"#, greedy);
        check(r#"{"temperature": 0.7}"#, r#"{"temperature":0.0}"#, greedy);
        check(
            r#"{"do_sample": false, "temperature": 0.3, "top_p": 0.9}"#,
            r#"{"temperature":0.0,"top_p":0.9}"#,
            (0.0, 0, 0.9, 1.0),
        );
        check(
            r#"{"do_sample": null, "temperature": null, "top_k": null, "top_p": null, "eos_token_id": null}"#,
            r#"{"temperature":0.0}"#,
            greedy,
        );
        check(
            r#"{"do_sample": true}"#,
            r#"{"temperature":1.0,"top_k":50,"top_p":1.0}"#,
            (1.0, 50, 1.0, 1.0),
        );
        check(
            "\u{feff}{\"do_sample\": true, \"temperature\": 0.5, \"top_k\": 0, \"top_p\": 0.5, \
             \"repetition_penalty\": 1.25, \"max_new_tokens\": 9, \"max_length\": 20, \"num_beams\": 1}",
            r#"{"temperature":0.5,"top_k":0,"top_p":0.5,"repetition_penalty":1.25,"max_new_tokens":9}"#,
            (0.5, 0, 0.5, 1.25),
        );
    }

    #[test]
    fn ends_are_a_number_or_several() {
        let ends = |text: &str| read(text).expect(text).end_ids().to_vec();
        assert_eq!(ends(r#"{"eos_token_id": 3}"#), [3]);
        assert_eq!(ends(r#"{"eos_token_id": [3, 7]}"#), [3, 7]);
        for none in ["{}", r#"{"eos_token_id": []}"#, r#"{"eos_token_id": -1}"#] {
            assert!(ends(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn wrong_values_are_named_with_their_file() {
        for (text, part) in [
            (r#"{"do_sample": true, "temperature": -1}"#, "temperature"),
            (r#"{"top_p": 0}"#, "top_p"),
            (r#"{"repetition_penalty": 99}"#, "repetition_penalty"),
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens"),
            (r#"{"top_k": "many"}"#, "many"),
            ("<!doctype html>", "line 1"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.starts_with(GENERATION_FILE), "{error}");
            assert!(error.contains(part), "{error}");
        }
        // Greedy decoding has no use for it.
        assert!(read(r#"{"temperature": -1}"#).is_ok());
    }

    #[cfg(feature = "fs")]
    #[test]
    fn a_missing_file_says_nothing_and_an_unreadable_one_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = GenerationConfig::from_dir(folder.path()).expect("nothing");
        assert_eq!(config, GenerationConfig::default());
        assert_eq!(config.defaults().sampling(), SamplingOptions::default());
        std::fs::create_dir(folder.path().join(GENERATION_FILE)).expect("writable");
        let error = GenerationConfig::from_dir(folder.path()).expect_err("a folder");
        assert!(error.to_string().contains(GENERATION_FILE), "{error}");
    }
}
