//! The lines of `metrics.jsonl`: one a step, one a validation.
//!
//! JSON has no NaN: a loss that is not a number is written as `null` and read back as NaN. Unknown fields are ignored
//! and missing ones have defaults, so that files of older and newer versions stay readable.

use serde::{Deserialize, Deserializer, Serialize};

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step's number, counted from 1.
    pub step: u64,
    /// Targets learned from so far.
    #[serde(default)]
    pub tokens: u64,
    /// Seconds of training so far, over all sessions.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub seconds: f64,
    /// Finished share of the budget, after the step.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub progress: f64,
    /// Mean loss of the step's targets, in nats.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub loss: f64,
    /// Bits per UTF-8 byte of the step's conversations.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub bits_per_byte: f64,
    /// Learning rate that the step used.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub learning_rate: f64,
    /// Global norm of the gradient, before clipping.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub gradient_norm: f64,
    /// Targets per second of the step.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub tokens_per_second: f64,
    /// Depth, on average over layers and sequences, or positions where each has its own.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub depth: f64,
    /// How often each depth was taken, by depth from 0; empty where it was not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depths: Vec<u64>,
    /// What the router learned, where it learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterMetrics>,
    /// Factor on the loss that keeps 16-bit gradients in range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Whether the step was skipped because loss or gradient was not a finite number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Whether the loss lay more than six standard deviations above its recent mean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spike: bool,
}

/// What a step taught a router that learns from pseudo-classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouterMetrics {
    /// Mean cross-entropy between the router's classes and the pseudo-classes, in nats.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub loss: f64,
    /// Rows by the class that the router chose, from class 0.
    #[serde(default)]
    pub classes: Vec<u64>,
    /// Rows by pseudo-class: the class that their perplexity asks for.
    #[serde(default)]
    pub targets: Vec<u64>,
    /// Median perplexity of the rows, from which the pseudo-classes follow.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub perplexity: f64,
}

/// What a validation found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// The step after which it was measured.
    pub step: u64,
    /// Targets learned from so far; 0 where it was not recorded.
    #[serde(default)]
    pub tokens: u64,
    /// Seconds of training so far.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub seconds: f64,
    /// The figures.
    pub validation: Summary,
    /// How often each depth was taken, by depth from 0; empty where it was not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depths: Vec<u64>,
    /// What the model answered to fixed prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// A measurement's figures, as reports and JSON give them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Nats per token.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub loss: f64,
    /// `exp(loss)`.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub perplexity: f64,
    /// Bits per UTF-8 byte of message content.
    #[serde(default = "nan", deserialize_with = "nullable")]
    pub bits_per_byte: f64,
    /// Targets scored.
    #[serde(default)]
    pub tokens: u64,
    /// UTF-8 bytes of message content.
    #[serde(default)]
    pub bytes: u64,
    /// Conversations scored.
    #[serde(default)]
    pub conversations: u64,
}

/// A prompt and what the model made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What the model was asked.
    pub prompt: String,
    /// What it answered.
    pub answer: String,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// What a validation found. Any object with `step` reads as a step, so this is tried first.
    Validation(ValidationMetrics),
    /// What a step did.
    Step(StepMetrics),
}

fn nan() -> f64 {
    f64::NAN
}

/// Reads a number, or null as NaN.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_step_keeps_the_fields_it_always_had() {
        let step = StepMetrics {
            step: 3,
            tokens: 96,
            loss: f64::NAN,
            ..StepMetrics::default()
        };
        assert_eq!(
            serde_json::to_string(&step).expect("serializable"),
            r#"{"step":3,"tokens":96,"seconds":0.0,"progress":0.0,"loss":null,"bits_per_byte":0.0,"learning_rate":0.0,"gradient_norm":0.0,"tokens_per_second":0.0,"depth":0.0}"#
        );
    }

    #[test]
    fn lines_read_back_as_what_they_were() {
        let step = StepMetrics {
            step: 3,
            depths: vec![0, 2, 5],
            router: Some(RouterMetrics {
                loss: 1.5,
                classes: vec![1, 2],
                targets: vec![3, 0],
                perplexity: 40.0,
            }),
            loss_scale: Some(65536.0),
            skipped: true,
            spike: true,
            ..StepMetrics::default()
        };
        let validation = ValidationMetrics {
            step: 3,
            tokens: 96,
            samples: vec![Sample {
                prompt: "Hello".into(),
                answer: "\u{0}\"<b>".into(),
            }],
            ..ValidationMetrics::default()
        };
        for line in [Line::Step(step), Line::Validation(validation)] {
            let text = match &line {
                Line::Step(step) => serde_json::to_string(step),
                Line::Validation(validation) => serde_json::to_string(validation),
            };
            let read: Line = serde_json::from_str(&text.expect("serializable")).expect("readable");
            assert_eq!(read, line);
        }
    }

    #[test]
    fn null_and_missing_numbers_are_nan_and_unknown_fields_are_ignored() {
        let line = serde_json::from_str(r#"{"step":1,"loss":null,"colour":"blue"}"#);
        let Ok(Line::Step(step)) = line else {
            panic!("not a step: {line:?}");
        };
        assert!(step.loss.is_nan() && step.gradient_norm.is_nan());
        let line = serde_json::from_str(r#"{"step":1,"validation":{"loss":null,"tokens":4}}"#);
        let Ok(Line::Validation(validation)) = line else {
            panic!("not a validation: {line:?}");
        };
        assert!(validation.validation.loss.is_nan());
        assert_eq!((validation.tokens, validation.validation.tokens), (0, 4));
        assert!(serde_json::from_str::<Line>(r#"{"loss":1.0}"#).is_err());
    }
}
