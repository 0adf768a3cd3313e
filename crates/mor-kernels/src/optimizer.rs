//! Optimizer arithmetic in one pass over memory.

use crate::check::check_len;
use rayon::prelude::*;

/// Elements that one task handles; constant, so that sums do not depend on the threads.
const CHUNK: usize = 16 * 1024;

/// Settings of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay: the parameter first shrinks by `learning_rate · weight_decay`.
    pub weight_decay: f32,
    /// Multiplies every gradient first; the place for clipping by the global norm.
    pub grad_scale: f32,
    /// The number of this step, counted from 1, for the correction of the moments' bias.
    pub step: u64,
}

/// One AdamW step on `param`, with the gradient and both moments, all of one length; `param`,
/// `first` and `second` are updated in place.
pub fn adamw_step(
    settings: &AdamW,
    param: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    check_len("grad", grad, &[param.len()]);
    check_len("first", first, &[param.len()]);
    check_len("second", second, &[param.len()]);
    let power = |beta: f32| f64::from(beta).powf(settings.step.max(1) as f64);
    let step_size = f64::from(settings.learning_rate) / (1.0 - power(settings.beta1));
    let step_size = step_size as f32;
    let second_scale = (1.0 / (1.0 - power(settings.beta2)).sqrt()) as f32;
    let keep = 1.0 - settings.learning_rate * settings.weight_decay;
    let AdamW {
        beta1,
        beta2,
        eps,
        grad_scale,
        ..
    } = *settings;
    param
        .par_chunks_mut(CHUNK)
        .zip(grad.par_chunks(CHUNK))
        .zip(
            first
                .par_chunks_mut(CHUNK)
                .zip(second.par_chunks_mut(CHUNK)),
        )
        .for_each(|((param, grad), (first, second))| {
            for (((p, g), m), v) in param.iter_mut().zip(grad).zip(first).zip(second) {
                let g = g * grad_scale;
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p = *p * keep - step_size * *m / (v.sqrt() * second_scale + eps);
            }
        });
}

/// The sum of the squares of `x`, for the global norm.
pub fn sum_squares(x: &[f32]) -> f64 {
    let partial: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|chunk| {
            chunk
                .chunks(64)
                .map(|c| f64::from(c.iter().map(|v| v * v).sum::<f32>()))
                .sum()
        })
        .collect();
    partial.iter().sum()
}
