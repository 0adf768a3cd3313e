//! Values for models that are made up.

use mor_math::{SplitMix64, fnv1a};

/// Values for a tensor of a random model: gains 1, vectors 0, matrices uniform with the variance
/// `1 / inputs` that keeps activations at their size.
pub(crate) fn tensor(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let len = shape.iter().product();
    if shape.len() < 2 {
        // Only layer norms have weights of one dimension.
        let gain = if name.ends_with(".weight") { 1.0 } else { 0.0 };
        return vec![gain; len];
    }
    // Each tensor draws its own numbers, whatever the order of loading.
    let mut draw = SplitMix64::new(seed ^ fnv1a(name.as_bytes()));
    let limit = (3.0 / shape[1] as f32).sqrt();
    (0..len)
        .map(|_| (2.0 * draw.uniform_f32() - 1.0) * limit)
        .collect()
}
