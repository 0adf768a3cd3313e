//! What a configuration may say.

use std::path::{Path, PathBuf};

use super::{AdaptiveEmbedding, Architecture, Limits, ModelConfig, Positions, RouterKind};
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
        let parts = [
            ("num_prelude_layers", self.num_prelude_layers),
            ("num_core_layers", self.num_core_layers),
            ("num_coda_layers", self.num_coda_layers),
        ];
        if self.architecture != Architecture::Recursive {
            if let Some((field, _)) = parts.into_iter().find(|(_, layers)| *layers > 0) {
                return fail(field, "belongs to mor-recursive".to_owned());
            }
            if !self.routing.thresholds.is_empty() {
                return fail("routing.thresholds", "belongs to mor-recursive".to_owned());
            }
            if self.routing.budget.is_some() {
                return fail("routing.budget", "belongs to mor-recursive".to_owned());
            }
        }
        match self.architecture {
            Architecture::Recursive => self.validate_recursive(origin)?,
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
        self.validate_adaptive_embedding(origin)
    }

    /// Prelude, core and coda, and what their gates are asked.
    fn validate_recursive(&self, origin: &Path) -> Result<(), ConfigError> {
        let fail = |field, problem: String| {
            Err(ConfigError::Field {
                path: PathBuf::from(origin),
                field,
                problem,
            })
        };
        if self.positions != Positions::Rotary {
            return fail(
                "position_embedding_type",
                "must be rotary in mor-recursive".to_owned(),
            );
        }
        if self.num_core_layers == 0 {
            return fail("num_core_layers", "is 0; something must loop".to_owned());
        }
        let parts = [
            self.num_prelude_layers,
            self.num_core_layers,
            self.num_coda_layers,
        ];
        let sum = parts
            .iter()
            .fold(0, |sum: usize, part| sum.saturating_add(*part));
        if sum != self.num_hidden_layers {
            return fail(
                "num_hidden_layers",
                format!(
                    "is {}, but prelude, core and coda have {sum} layers together",
                    self.num_hidden_layers
                ),
            );
        }
        let routing = &self.routing;
        if !routing.class_steps.is_empty() {
            return fail(
                "routing.class_steps",
                "belongs to mor-conversational; here gates decide loop by loop".to_owned(),
            );
        }
        if routing.depth == Some(0) {
            return fail("routing.depth", "is 0; it must be at least 1".to_owned());
        }
        let thresholds = &routing.thresholds;
        if routing.kind == RouterKind::Fixed && thresholds.is_empty() && routing.budget.is_none() {
            return Ok(());
        }
        // From "all go on" to "none does": a higher budget never asks more of a position.
        let falls = thresholds.windows(2).all(|pair| pair[0] >= pair[1]);
        let are_numbers = thresholds.iter().all(|at| (0.0..=1.0).contains(at));
        if thresholds.len() != routing.budgets() || !falls || !are_numbers {
            return fail(
                "routing.thresholds",
                format!(
                    "has {} numbers; it must have {}, one for each tenth of a loop from 1 to max_steps, between 0 and 1 and \
                     falling",
                    thresholds.len(),
                    routing.budgets()
                ),
            );
        }
        if routing
            .budget
            .is_none_or(|budget| routing.threshold(budget).is_none())
        {
            return fail(
                "routing.budget",
                format!(
                    "must be a mean number of loops from 1 to {}",
                    routing.max_steps
                ),
            );
        }
        Ok(())
    }

    /// The bands of an adaptive embedding.
    fn validate_adaptive_embedding(&self, origin: &Path) -> Result<(), ConfigError> {
        let fail = |field, problem: String| {
            Err(ConfigError::Field {
                path: PathBuf::from(origin),
                field,
                problem,
            })
        };
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
