//! The configuration that follows from a checkpoint's shapes.

mod conversational;
mod positions;
mod technical;

pub use conversational::{ConversationalOptions, conversational};
pub use technical::{TechnicalOptions, technical};

use std::collections::HashSet;

use mor_config::{Limits, ModelConfig};

use crate::{Checkpoint, ImportError};

/// Most tensors that an error lists.
const SHOWN: usize = 24;

/// The shape of a matrix, `[rows, columns]`.
fn matrix(checkpoint: &Checkpoint, name: &str) -> Result<[usize; 2], ImportError> {
    let problem = match checkpoint.shape(name) {
        Some(shape @ &[rows, columns]) if rows.min(columns) == 0 => {
            format!(
                "`{name}` has shape {shape:?}, so nothing in it; save the model with its weights"
            )
        }
        Some(&[rows, columns]) => return Ok([rows, columns]),
        Some(shape) => format!("`{name}` has shape {shape:?}; expected a matrix"),
        None => format!("`{name}` is missing; is this a checkpoint of another model?"),
    };
    Err(ImportError::checkpoint(checkpoint.path(), problem))
}

/// How many different numbers follow `prefix` in names, assuming they count from 0: one more than the largest.
fn count(checkpoint: &Checkpoint, prefix: &str) -> usize {
    let numbers = checkpoint.names().filter_map(|name| {
        let number = name.strip_prefix(prefix)?.split('.').next()?;
        number.parse::<usize>().ok()
    });
    // Whatever is larger is refused as a configuration.
    numbers
        .max()
        .map_or(0, |largest| largest.min(Limits::LAYERS) + 1)
}

/// Whether the head is the embedding: absent, or the same numbers.
fn is_tied(checkpoint: &Checkpoint, embedding: &str) -> Result<bool, ImportError> {
    const HEAD: &str = "lm_head.weight";
    let Some(shape) = checkpoint.shape(HEAD) else {
        return Ok(true);
    };
    Ok(checkpoint.shape(embedding) == Some(shape)
        && checkpoint.to_f32(HEAD)? == checkpoint.to_f32(embedding)?)
}

/// Checks a number of attention heads that was given or found.
fn check_heads(checkpoint: &Checkpoint, width: usize, heads: usize) -> Result<(), ImportError> {
    if heads != 0 && width.is_multiple_of(heads) {
        return Ok(());
    }
    let fitting = (1..=width.min(64)).filter(|heads| width.is_multiple_of(*heads));
    let fitting: Vec<_> = fitting.map(|heads| heads.to_string()).collect();
    Err(ImportError::Option(format!(
        "{heads} heads do not divide the width {width} of {}; give the model's own number with --heads, one of {}",
        checkpoint.path().display(),
        fitting.join(", ")
    )))
}

/// A tensor's name for a message: it comes from the file and could hold anything.
fn shown(name: &str) -> String {
    let escaped = name.escape_debug();
    escaped.take(200).collect()
}

/// Validates a configuration and checks that the checkpoint has exactly its tensors, besides those of `derived`.
fn checked(
    config: ModelConfig,
    checkpoint: &Checkpoint,
    derived: &[String],
) -> Result<ModelConfig, ImportError> {
    config.validate(checkpoint.path())?;
    let specs = config.tensors();
    let known: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let mut problems = Vec::new();
    for spec in &specs {
        match checkpoint.shape(&spec.name) {
            None => problems.push(format!("`{}` is missing", spec.name)),
            Some(shape) if shape != spec.shape => problems.push(format!(
                "`{}` has shape {shape:?}, not {:?}",
                spec.name, spec.shape
            )),
            Some(_) => {}
        }
    }
    for name in checkpoint.names() {
        let is_derived = derived.iter().any(|derived| derived == name);
        if !known.contains(name) && !is_derived && !config.tolerates_tensor(name) {
            problems.push(format!("`{}` is unknown", shown(name)));
        }
    }
    if problems.is_empty() {
        return Ok(config);
    }
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    let family = config.architecture.as_str();
    let problem = format!("is no {family} checkpoint: {}", problems.join(", "));
    Err(ImportError::checkpoint(checkpoint.path(), problem))
}
