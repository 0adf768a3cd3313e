//! What a configuration may say.

use std::path::{Path, PathBuf};

use super::{AdaptiveEmbedding, Architecture, Limits, ModelConfig, Positions};
use crate::ConfigError;

impl ModelConfig {
    /// Checks every value against its range and against the others.
    ///
    /// # Errors
    /// [`ConfigError::Field`], naming the key, the value found and what is allowed.
    pub fn validate(&self, origin: &Path) -> Result<(), ConfigError> {
        let fail = |field, problem: String| {
            Err(ConfigError::Field {
                path: PathBuf::from(origin),
                field,
                problem,
            })
        };
        let sizes = [
            ("vocab_size", self.vocab_size, Limits::VOCAB),
            ("hidden_size", self.hidden_size, Limits::WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, Limits::LAYERS),
            (
                "num_attention_heads",
                self.num_attention_heads,
                Limits::WIDTH,
            ),
            ("intermediate_size", self.intermediate_size, Limits::WIDTH),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                Limits::CONTEXT,
            ),
            ("routing.max_steps", self.routing.max_steps, Limits::STEPS),
        ];
        for (field, value, limit) in sizes {
            if value == 0 || value > limit {
                return fail(field, format!("is {value}; it must be from 1 to {limit}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return fail(
                "num_attention_heads",
                format!(
                    "is {}, which does not divide hidden_size {}",
                    self.num_attention_heads, self.hidden_size
                ),
            );
        }
        if self.positions == Positions::Rotary && !self.head_dim().is_multiple_of(2) {
            return fail(
                "position_embedding_type",
                format!(
                    "is rotary, which needs an even head size; hidden_size / num_attention_heads is {}",
                    self.head_dim()
                ),
            );
        }
        if let Some(depth) = self.routing.depth
            && depth > self.routing.max_steps
        {
            return fail(
                "routing.depth",
                format!(
                    "is {depth}, more than routing.max_steps {}",
                    self.routing.max_steps
                ),
            );
        }
        if self.pad_token_id as usize >= self.vocab_size {
            return fail(
                "pad_token_id",
                format!(
                    "is {}, outside the vocabulary of {}",
                    self.pad_token_id, self.vocab_size
                ),
            );
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return fail(
                "layer_norm_eps",
                format!("is {}; it must be between 0 and 1", self.layer_norm_eps),
            );
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta.is_finite()) {
            return fail(
                "rope_theta",
                format!("is {}; it must be at least 1", self.rope_theta),
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(
                "hidden_dropout_prob",
                format!("is {}; it must be at least 0 and below 1", self.dropout),
            );
        }
        self.validate_architecture(origin)
    }

    /// What one family has and the other has not.
    fn validate_architecture(&self, origin: &Path) -> Result<(), ConfigError> {
        let fail = |field, problem: String| {
            Err(ConfigError::Field {
                path: PathBuf::from(origin),
                field,
                problem,
            })
        };
        let classes = &self.routing.class_steps;
        match self.architecture {
            Architecture::Technical => {
                if !classes.is_empty() {
                    return fail(
                        "routing.class_steps",
                        "belongs to mor-conversational; here the classes are 0 to max_steps"
                            .to_owned(),
                    );
                }
            }
            Architecture::Conversational => {
                if self.positions != Positions::Rotary {
                    return fail(
                        "position_embedding_type",
                        "must be rotary in mor-conversational".to_owned(),
                    );
                }
                let increasing = classes.windows(2).all(|pair| pair[0] < pair[1]);
                if classes.is_empty()
                    || !increasing
                    || classes.last() != Some(&self.routing.max_steps)
                {
                    return fail(
                        "routing.class_steps",
                        format!(
                            "is {classes:?}; it must increase up to max_steps {}",
                            self.routing.max_steps
                        ),
                    );
                }
            }
        }
        let Some(AdaptiveEmbedding { cutoffs, div_val }) = &self.adaptive_embedding else {
            return Ok(());
        };
        let bounds = || std::iter::once(&0).chain(cutoffs).chain([&self.vocab_size]);
        if cutoffs.is_empty()
            || bounds()
                .zip(bounds().skip(1))
                .any(|(low, high)| low >= high)
        {
            return fail(
                "adaptive_embedding.cutoffs",
                format!(
                    "is {cutoffs:?}; it must increase between 0 and vocab_size {}",
                    self.vocab_size
                ),
            );
        }
        let narrowest = u32::try_from(cutoffs.len())
            .ok()
            .and_then(|bands| div_val.checked_pow(bands))
            .and_then(|divisor| self.hidden_size.checked_div(divisor));
        if narrowest.is_none_or(|width| width == 0) {
            return fail(
                "adaptive_embedding.div_val",
                format!("is {div_val}; the last band must keep a width of at least 1"),
            );
        }
        if self.tie_word_embeddings {
            return fail(
                "tie_word_embeddings",
                "must be false with adaptive_embedding: the head has one width".to_owned(),
            );
        }
        Ok(())
    }
}
