//! Optimizer arithmetic in one pass over memory.
#![allow(unsafe_code)] // vector code; every pointer stays within slices of one checked length

use crate::check::check_len;
use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::profile::{Kernel, timer};
use mor_math::simd::Simd;
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

/// What a step's settings amount to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWFactors {
    /// Of the first moment, corrected for its bias.
    pub step_size: f32,
    /// Of the second moment's root, correcting its bias.
    pub root_scale: f32,
    /// What the parameter keeps of itself.
    pub keep: f32,
}

impl AdamW {
    /// What these settings amount to.
    pub fn factors(&self) -> AdamWFactors {
        let power = |beta: f32| f64::from(beta).powf(self.step.max(1) as f64);
        let step_size = f64::from(self.learning_rate) / (1.0 - power(self.beta1));
        AdamWFactors {
            step_size: step_size as f32,
            root_scale: (1.0 / (1.0 - power(self.beta2)).sqrt()) as f32,
            keep: 1.0 - self.learning_rate * self.weight_decay,
        }
    }
}

/// One AdamW step on `param`, with the gradient and both moments, all of one length; `param`,
/// `first` and `second` are updated in place.
///
/// ```
/// use mor_kernels::{AdamW, adamw_step};
///
/// let settings = AdamW {
///     learning_rate: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, grad_scale: 1.0, step: 1,
/// };
/// let (mut param, mut first, mut second) = ([1.0], [0.0], [0.0]);
/// adamw_step(&settings, &mut param, &[123.0], &mut first, &mut second);
/// // The first step is as large as the learning rate, whatever the gradient.
/// assert!((param[0] - 0.9).abs() < 1e-6);
/// ```
pub fn adamw_step(
    settings: &AdamW,
    param: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let _timer = timer(Kernel::Optimizer);
    check_len("grad", grad, &[param.len()]);
    check_len("first", first, &[param.len()]);
    check_len("second", second, &[param.len()]);
    let factors = settings.factors();
    let isa = current_isa();
    param
        .par_chunks_mut(CHUNK)
        .zip(grad.par_chunks(CHUNK))
        .zip(
            first
                .par_chunks_mut(CHUNK)
                .zip(second.par_chunks_mut(CHUNK)),
        )
        .for_each(|((param, grad), (first, second))| {
            // SAFETY: `isa` is available, and the four chunks have one length.
            unsafe { adamw(isa, settings, &factors, param, grad, first, second) }
        });
}

dispatch! {
    fn adamw(
        settings: &AdamW,
        factors: &AdamWFactors,
        param: &mut [f32],
        grad: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) = adamw_body
}

#[inline(always)]
unsafe fn adamw_body<S: Simd>(
    settings: &AdamW,
    factors: &AdamWFactors,
    param: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let mut i = 0;
    while i < param.len() {
        let n = S::LANES.min(param.len() - i);
        // SAFETY: `i + n` is within `param`, and the others have its length.
        unsafe {
            let (p, m, v) = (
                param.as_mut_ptr().add(i),
                first.as_mut_ptr().add(i),
                second.as_mut_ptr().add(i),
            );
            let g = S::mul(
                S::load_first(grad.as_ptr().add(i), n),
                S::splat(settings.grad_scale),
            );
            let decayed = S::mul(S::load_first(m, n), S::splat(settings.beta1));
            let mean = S::mul_add(g, S::splat(1.0 - settings.beta1), decayed);
            let decayed = S::mul(S::load_first(v, n), S::splat(settings.beta2));
            let square = S::mul_add(S::mul(g, g), S::splat(1.0 - settings.beta2), decayed);
            let root = S::mul_add(
                S::sqrt(square),
                S::splat(factors.root_scale),
                S::splat(settings.eps),
            );
            let step = S::div(S::mul(mean, S::splat(-factors.step_size)), root);
            let kept = S::mul_add(S::load_first(p, n), S::splat(factors.keep), step);
            S::store_first(m, mean, n);
            S::store_first(v, square, n);
            S::store_first(p, kept, n);
        }
        i += n;
    }
}

/// The sum of the squares of `x`, for the global norm.
pub fn sum_squares(x: &[f32]) -> f64 {
    let _timer = timer(Kernel::Optimizer);
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
