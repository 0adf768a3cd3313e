//! The conversational model: one shared block, and one router that decides how often it runs.

use std::path::Path;

use mor_config::{
    Architecture, HaltedRows, LoopKeys, ModelConfig, Pooling, Positions, RouterKind, RoutingConfig,
    without_byte_order_mark,
};
use serde_json::Value;

use super::{check_heads, checked, count, is_tied, matrix, positions};
use crate::{Checkpoint, ImportError};

/// Steps of the original's three classes, unless the checkpoint has a table of them.
const CLASS_STEPS: [usize; 3] = [1, 3, 5];
/// The original's context.
const CONTEXT: usize = 512;
/// A configuration is a page of text.
const MAX_CONFIG: u64 = 1 << 20;

/// What a conversational checkpoint does not say; what is `None` is looked for elsewhere, or has the original's value.
#[derive(Debug, Clone, Default)]
pub struct ConversationalOptions {
    /// Attention heads per layer; follows from the rotary tables where the checkpoint has them.
    pub heads: Option<usize>,
    /// Id of the padding token.
    pub pad_id: Option<u32>,
    /// Id of the token that ends an answer.
    pub eos_id: Option<u32>,
    /// Longest context in tokens; 512 in the original.
    pub context: Option<usize>,
    /// Base of the rotary angles; 10000 in the original.
    pub rope_theta: Option<f32>,
    /// Added to the variance in every layer norm; 1e-5 in the original.
    pub layer_norm_eps: Option<f32>,
}

impl ConversationalOptions {
    /// Fills in what is `None` from a `config.json` of the original, under any of the names in use for it.
    ///
    /// # Errors
    /// [`ImportError::Io`], or [`ImportError::Checkpoint`] when the file is not a JSON object or a value has another
    /// type.
    pub fn fill_from(&mut self, path: &Path) -> Result<(), ImportError> {
        let io = |error| ImportError::io(path, error);
        let fail = |problem: String| ImportError::checkpoint(path, problem);
        let len = std::fs::metadata(path).map_err(io)?.len();
        if len > MAX_CONFIG {
            return Err(fail(format!("{len} bytes is too long for a configuration")));
        }
        let text = std::fs::read(path).map_err(io)?;
        let json: Value = serde_json::from_slice(without_byte_order_mark(&text))
            .map_err(|error| fail(format!("not valid JSON: {error}")))?;
        let object = json
            .as_object()
            .ok_or_else(|| fail("expected a JSON object".to_owned()))?;
        let number = |names: &[&str]| {
            let entry = names
                .iter()
                .find_map(|name| Some((name, object.get(*name)?)));
            let Some((name, value)) = entry.filter(|(_, value)| !value.is_null()) else {
                return Ok(None);
            };
            let number = value.as_f64().filter(|number| *number >= 0.0);
            let number =
                number.ok_or_else(|| fail(format!("`{name}` is {value}; expected a number")));
            number.map(Some)
        };
        let size = |names: &[&str]| Ok::<_, ImportError>(number(names)?.map(|size| size as usize));
        let id = |names: &[&str]| Ok::<_, ImportError>(number(names)?.map(|id| id as u32));

        let heads = size(&["num_attention_heads", "num_heads", "n_heads", "n_head"])?;
        self.heads = self.heads.or(heads);
        self.pad_id = self.pad_id.or(id(&["pad_token_id", "pad_id"])?);
        self.eos_id = self.eos_id.or(id(&["eos_token_id", "eos_id"])?);
        let context = size(&[
            "max_position_embeddings",
            "max_seq_len",
            "max_seq_length",
            "n_positions",
        ])?;
        self.context = self.context.or(context);
        let theta = number(&["rope_theta", "rope_base"])?.map(|theta| theta as f32);
        self.rope_theta = self.rope_theta.or(theta);
        let eps = number(&["layer_norm_eps", "layer_norm_epsilon"])?.map(|eps| eps as f32);
        self.layer_norm_eps = self.layer_norm_eps.or(eps);
        Ok(())
    }
}

/// The configuration of a conversational model, with the original's behaviour: the router sees the mean of all
/// positions that are not pads.
///
/// # Errors
/// [`ImportError::Missing`] when heads or the padding token are unknown; [`ImportError`] when tensors are missing,
/// unknown or of other shapes than the rest asks for, listing them by name.
pub fn conversational(
    checkpoint: &Checkpoint,
    options: &ConversationalOptions,
) -> Result<ModelConfig, ImportError> {
    const EMBEDDING: &str = "embed.weight";
    let [vocab_size, hidden_size] = matrix(checkpoint, EMBEDDING)?;
    let [intermediate_size, _] = matrix(checkpoint, "rec_layer.block.ff.fc1.weight")?;
    let [classes, _] = matrix(checkpoint, "router.head.3.weight")?;
    let class_steps = class_steps(checkpoint, classes)?;
    let heads = match options.heads {
        Some(heads) => heads,
        None => heads_of_rotary_table(checkpoint, hidden_size)
            .ok_or_else(|| missing("heads", "--heads"))?,
    };
    check_heads(checkpoint, hidden_size, heads)?;
    let config = ModelConfig {
        architecture: Architecture::Conversational,
        vocab_size,
        hidden_size,
        num_hidden_layers: count(checkpoint, "layers."),
        num_prelude_layers: 0,
        num_core_layers: 0,
        num_coda_layers: 0,
        num_attention_heads: heads,
        intermediate_size,
        max_position_embeddings: options.context.unwrap_or(CONTEXT),
        positions: Positions::Rotary,
        rope_theta: options.rope_theta.unwrap_or(10_000.0),
        layer_norm_eps: options.layer_norm_eps.unwrap_or(1e-5),
        dropout: 0.0,
        tie_word_embeddings: is_tied(checkpoint, EMBEDDING)?,
        pad_token_id: options
            .pad_id
            .ok_or_else(|| missing("the padding token", "--pad-id"))?,
        adaptive_embedding: None,
        routing: RoutingConfig {
            kind: RouterKind::Adaptive,
            max_steps: class_steps.iter().copied().max().unwrap_or(0),
            class_steps,
            depth: None,
            pooling: Pooling::Real,
            halted_rows: HaltedRows::Freeze,
            kv: LoopKeys::default(),
            thresholds: Vec::new(),
            budget: None,
        },
    };
    let config = checked(config, checkpoint, &[])?;
    check_rotary_table(checkpoint, &config)?;
    Ok(config)
}

const ROTARY_TABLE: &str = "rec_layer.block.attn.rope.inv_freq";

fn missing(what: &str, option: &str) -> ImportError {
    ImportError::Missing(format!(
        "the checkpoint does not say {what}; give {option}, or the original's config.json with --config"
    ))
}

/// The steps that each class of the router stands for.
fn class_steps(checkpoint: &Checkpoint, classes: usize) -> Result<Vec<usize>, ImportError> {
    const TABLE: &str = "router.steps_map";
    let steps: Option<Vec<usize>> = if checkpoint.shape(TABLE).is_some() {
        let steps = checkpoint.to_i64(TABLE)?;
        steps
            .into_iter()
            .map(|step| usize::try_from(step).ok())
            .collect()
    } else {
        Some(CLASS_STEPS.to_vec())
    };
    steps.filter(|steps| steps.len() == classes).ok_or_else(|| {
        let problem =
            format!("has a router of {classes} classes, but no `{TABLE}` with their steps");
        ImportError::checkpoint(checkpoint.path(), problem)
    })
}

/// A rotary table has one frequency for every two dimensions of a head.
fn heads_of_rotary_table(checkpoint: &Checkpoint, hidden_size: usize) -> Option<usize> {
    let &[pairs] = checkpoint.shape(ROTARY_TABLE)? else {
        return None;
    };
    hidden_size.checked_div(pairs.checked_mul(2)?)
}

/// Frequencies are a table in the checkpoint and follow from a base in ours: they must agree.
fn check_rotary_table(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<(), ImportError> {
    if checkpoint.shape(ROTARY_TABLE).is_none() {
        return Ok(());
    }
    let table = checkpoint.to_f32(ROTARY_TABLE)?;
    if table.len() == config.head_dim() / 2 && positions::follows(&table, config.rope_theta) {
        return Ok(());
    }
    let problem = format!(
        "`{ROTARY_TABLE}` does not fit {} heads and a base of {}; give the original's config.json with --config",
        config.num_attention_heads, config.rope_theta
    );
    Err(ImportError::checkpoint(checkpoint.path(), problem))
}
