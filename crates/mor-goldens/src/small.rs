//! Small models of all families with random weights.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use mor_config::{
    Architecture, Budget, Component, ConfigError, LoopKeys, ModelConfig, Pooling, Positions,
    Precision, Preset, RouterKind, Weights, tensors_to_bytes,
};
use safetensors::{Dtype, tensor::TensorView};

/// Values by the names of tensors.
pub type Named = HashMap<String, Vec<f64>>;

/// A small technical model with routers.
pub fn technical(positions: Positions, pooling: Pooling) -> ModelConfig {
    ModelConfig {
        positions,
        ..small(Preset::TechnicalCard, pooling)
    }
}

/// A small conversational model with a router.
pub fn conversational(pooling: Pooling) -> ModelConfig {
    ModelConfig {
        pad_token_id: 0,
        ..small(Preset::Conversational198m, pooling)
    }
}

/// A small recursive model with gates, of two loops on average.
pub fn recursive(kv: LoopKeys) -> ModelConfig {
    let mut config = small(Preset::Recursive10m, Pooling::Sequence);
    config.num_hidden_layers = 4;
    config.tie_word_embeddings = false;
    let routing = &mut config.routing;
    routing.kind = RouterKind::Adaptive;
    routing.kv = kv;
    let last = routing.budgets() - 1;
    routing.thresholds = (0..=last).map(|at| 1.0 - at as f32 / last as f32).collect();
    routing.budget = Some(Budget::beyond_one(10));
    config
}

/// Technical and conversational, for each way of pooling.
pub fn routed_configs() -> Vec<ModelConfig> {
    let pooling = [Pooling::Sequence, Pooling::Real, Pooling::Prefix];
    let both = |pooling| {
        [
            technical(Positions::Rotary, pooling),
            conversational(pooling),
        ]
    };
    pooling.into_iter().flat_map(both).collect()
}

fn small(preset: Preset, pooling: Pooling) -> ModelConfig {
    let mut config = preset.config();
    config.vocab_size = 61;
    config.hidden_size = 40;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2;
    config.intermediate_size = 72;
    config.max_position_embeddings = 48;
    config.routing.pooling = pooling;
    config
}

/// Random tensors whose values are exact in f16, and the file of `dtype` (f16, else f32) that holds them. Router outputs
/// are large, so that every class is someone's.
///
/// # Errors
/// [`ConfigError::Weights`] where they cannot be encoded; never with a valid configuration.
pub fn random_weights(config: &ModelConfig, dtype: Dtype) -> Result<(Named, Weights), ConfigError> {
    let mut state = 12345_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let dtype = match dtype {
        Dtype::F16 => Dtype::F16,
        _ => Dtype::F32,
    };
    let origin = Path::new("model.safetensors");
    let fail = |error: safetensors::SafeTensorError| ConfigError::Weights {
        path: origin.to_owned(),
        problem: error.to_string(),
    };
    let (mut named, mut encoded) = (Named::new(), Vec::new());
    for spec in config.tensors() {
        let gain = spec.shape.len() == 1 && spec.name.ends_with("weight");
        let router = spec.component == Component::Routers;
        let conversational = config.architecture != Architecture::Technical;
        let scale = match (router, conversational) {
            _ if spec.shape.len() == 1 => 0.4,
            (true, _) => 8.0,
            // Without a norm after the embedding, small tokens would all look alike to the router.
            (false, true) if spec.name.starts_with("embed") => 12.0,
            _ => 2.5,
        };
        let scale = scale / (spec.shape.last().copied().unwrap_or(1) as f64).sqrt();
        let values: Vec<f16> = (0..spec.shape.iter().product())
            .map(|_| f16::from_f64(random() * scale + if gain { 1.0 } else { 0.0 }))
            .collect();
        let bytes: Vec<u8> = match dtype {
            Dtype::F16 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => values
                .iter()
                .flat_map(|v| v.to_f32().to_le_bytes())
                .collect(),
        };
        named.insert(
            spec.name.clone(),
            values.iter().map(|v| v.to_f64()).collect(),
        );
        encoded.push((spec.name, spec.shape, bytes));
    }
    let views = encoded.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(dtype, shape.clone(), bytes);
        view.map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<Result<_, _>>().map_err(fail)?;
    let file = safetensors::serialize(views, None).map_err(fail)?;
    Ok((named, Weights::from_bytes(file, origin)?))
}

/// Other tensors in a file of `precision`: `edit` is given each one's name and values.
///
/// # Errors
/// [`ConfigError::Weights`] where a value does not fit.
pub fn stored_as(
    weights: &Weights,
    precision: Precision,
    edit: impl Fn(&str, &mut [f32]),
) -> Result<Weights, ConfigError> {
    let mut named = Vec::new();
    for name in weights.names() {
        let shape = weights.shape(&name)?.to_vec();
        let mut values = weights.to_f32(&name)?;
        edit(&name, &mut values);
        named.push((name, shape, values));
    }
    let origin = weights.path();
    Weights::from_bytes(tensors_to_bytes(origin, &named, precision)?, origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_weights_come_every_time_and_fit_their_configuration() {
        for config in routed_configs() {
            let (named, weights) = random_weights(&config, Dtype::F32).expect("encodable");
            mor_config::check_tensors(&config, &weights).expect("fits");
            let (again, half) = random_weights(&config, Dtype::F16).expect("encodable");
            assert_eq!(named, again);
            for name in weights.names() {
                let values = weights.to_f32(&name).expect("there");
                assert_eq!(half.to_f32(&name).expect("there"), values, "{name}");
            }
            let int8 = stored_as(&weights, Precision::Q8, |_, _| ()).expect("encodable");
            mor_config::check_tensors(&config, &int8).expect("fits");
        }
    }
}
