//! Initial values, a pure function of the seed and the tensor's name.

use mor_config::{Architecture, Component, ModelConfig, TensorSpec};
use mor_math::{SplitMix64, fnv1a};

/// Initial values of one tensor.
///
/// * embedding tables, learned positions, the head: N(0, 0.02²), small enough for a head that is tied to the table;
/// * linear weights, routers and the projections of adaptive embeddings among them: N(0, 1/in), which keeps the
///   variance of a normalised input;
/// * those that write to the residual stream (`w_o` and `linear2`; `out_proj` and `fc2`): the same, divided by the root
///   of the number of writes, so that the stream's variance does not grow with depth. Every step of a layer or block
///   writes twice;
/// * step projections: the identity, so that a step starts as an ordinary transformer block;
/// * layer-norm gains: 1; biases: 0. A router thus starts undecided but for its input: which class comes first is
///   chance, and the pseudo-classes teach it the rest.
pub(crate) fn initial_values(config: &ModelConfig, spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let count = spec.shape.iter().product();
    let name = spec.name.as_str();
    let &[_, inputs] = spec.shape.as_slice() else {
        let gain = name.ends_with(".weight");
        return vec![if gain { 1.0 } else { 0.0 }; count];
    };
    if spec.component == Component::StepProjections {
        let mut values = vec![0.0; count];
        values.iter_mut().step_by(inputs + 1).for_each(|v| *v = 1.0);
        return values;
    }
    let deviation = match spec.component {
        Component::PositionEmbedding | Component::Head => TABLE_DEVIATION,
        Component::TokenEmbedding if !name.contains(".emb_projs.") => TABLE_DEVIATION,
        _ => {
            let written = [".w_o.", ".linear2.", ".out_proj.", ".fc2."];
            let writes = written.iter().any(|part| name.contains(part));
            let shrink = if writes { writes_to_stream(config) } else { 1 };
            (inputs as f64 * shrink as f64).sqrt().recip()
        }
    };
    let mut draw = SplitMix64::new(seed ^ fnv1a(name.as_bytes()));
    (0..count)
        .map(|_| (normal(&mut draw) * deviation) as f32)
        .collect()
}

/// Standard deviation of tables.
const TABLE_DEVIATION: f64 = 0.02;

/// How often a token's residual stream is added to at full depth.
fn writes_to_stream(config: &ModelConfig) -> usize {
    let (layers, steps) = (config.num_hidden_layers, config.routing.max_steps);
    2 * match config.architecture {
        Architecture::Technical => layers * steps,
        Architecture::Conversational => layers + steps,
        Architecture::Recursive => layers + config.num_core_layers * (steps - 1),
    }
}

/// Standard normal (Box–Muller).
fn normal(draw: &mut SplitMix64) -> f64 {
    /// One step above 0, of which there is no logarithm.
    const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
    let radius = (-2.0 * (draw.uniform() + STEP).ln()).sqrt();
    radius * (std::f64::consts::TAU * (draw.uniform() + STEP)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mor_config::Preset;

    #[test]
    fn values_follow_their_distribution_and_the_seed() {
        let config = Preset::Technical10m.config();
        for spec in config.tensors() {
            let values = initial_values(&config, &spec, 1);
            assert_eq!(values.len(), spec.shape.iter().product::<usize>());
            let mean =
                |f: fn(f32) -> f64| values.iter().map(|v| f(*v)).sum::<f64>() / values.len() as f64;
            if spec.name.ends_with("w_q.weight") {
                let variance = mean(|v| f64::from(v * v));
                assert!((variance * 384.0 - 1.0).abs() < 0.02, "{variance}");
                assert!(mean(f64::from).abs() < 1e-3);
                assert_eq!(values, initial_values(&config, &spec, 1));
                assert_ne!(values, initial_values(&config, &spec, 2));
            }
        }
    }
}
