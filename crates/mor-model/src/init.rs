//! Initial values, a pure function of the seed and the tensor's name.

use mor_config::{ModelConfig, TensorSpec};

/// Initial values of one tensor.
///
/// * embedding tables: N(0, 0.02²);
/// * linear weights: N(0, 1/in), which keeps the variance of a normalised input;
/// * `w_o` and `linear2`, which write to the residual stream: the same, divided by
///   √(2 · layers · max_steps), so that the stream's variance does not grow with depth;
/// * step projections: the identity, so that a step starts as an ordinary transformer block;
/// * layer-norm gains: 1; biases: 0.
pub(crate) fn initial_values(config: &ModelConfig, spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let count = spec.shape.iter().product();
    let name = spec.name.as_str();
    let &[_, inputs] = spec.shape.as_slice() else {
        let gain = name.ends_with(".weight");
        return vec![if gain { 1.0 } else { 0.0 }; count];
    };
    if name.contains(".step_projections.") {
        let mut values = vec![0.0; count];
        values.iter_mut().step_by(inputs + 1).for_each(|v| *v = 1.0);
        return values;
    }
    let deviation = if name.starts_with("layers.") {
        let writes = name.contains(".w_o.") || name.contains(".linear2.");
        let branches = 2 * config.num_hidden_layers * config.routing.max_steps;
        let shrink = if writes { branches as f64 } else { 1.0 };
        (inputs as f64 * shrink).sqrt().recip()
    } else {
        0.02
    };
    let mut random = Random(seed ^ hash(name));
    (0..count)
        .map(|_| (random.normal() * deviation) as f32)
        .collect()
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// SplitMix64: tiny, and the same for ever, so that a seed keeps its meaning.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box–Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
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
