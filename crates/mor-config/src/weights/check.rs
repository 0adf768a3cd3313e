//! Whether a weights file is what its configuration says.

use std::collections::HashSet;

use safetensors::Dtype;

use super::{Weights, scales_of};
use crate::{Architecture, ConfigError, ModelConfig};

/// Checks that a weights file holds exactly the tensors its configuration asks for.
///
/// # Errors
/// [`ConfigError::Weights`], listing missing, unknown and misshapen tensors by name.
pub fn check_tensors(config: &ModelConfig, weights: &Weights) -> Result<(), ConfigError> {
    let (found, least) = (weights.names().len(), least_tensors(config));
    if found < least {
        return Err(weights.error(format!(
            "has {found} tensors, but config.json asks for at least {least}; use the config.json that belongs to \
             these weights"
        )));
    }
    let specs = config.tensors();
    let mut known: HashSet<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let mut problems = Vec::new();
    for spec in &specs {
        match weights.raw(&spec.name) {
            Err(_) => problems.push(format!("`{}` is missing", spec.name)),
            Ok((_, shape, _)) if shape != spec.shape => problems.push(format!(
                "`{}` has shape {shape:?}, not {:?}",
                spec.name, spec.shape
            )),
            Ok((Dtype::F32 | Dtype::F16 | Dtype::BF16, ..)) => {}
            Ok((Dtype::I8, ..)) => match weights.quantized(&spec.name) {
                Ok(_) => {
                    known.insert(scales_of(&spec.name));
                }
                Err(ConfigError::Weights { problem, .. }) => problems.push(problem),
                Err(error) => return Err(error),
            },
            Ok((dtype, ..)) => problems.push(format!("`{}` is {dtype:?}", spec.name)),
        }
    }
    for name in weights.names() {
        if !known.contains(&name) && !config.tolerates_tensor(&name) {
            problems.push(format!("`{name}` is unknown"));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 8;
    let more = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    let more = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    Err(weights.error(format!(
        "does not fit config.json: {}{more}; use the config.json that belongs to these weights",
        problems.join(", ")
    )))
}

/// As many tensors as a file of a configuration has at least. To compare before all are listed: a few digits in a damaged
/// config.json could ask for a million.
pub(super) fn least_tensors(config: &ModelConfig) -> usize {
    let repeats = match config.architecture {
        Architecture::Technical => config.routing.max_steps,
        Architecture::Conversational | Architecture::Recursive => 1,
    };
    config.num_hidden_layers * repeats
}
