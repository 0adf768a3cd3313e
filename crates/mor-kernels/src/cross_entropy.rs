//! The output head and the softmax cross-entropy in one pass, without ever holding all logits.
#![allow(unsafe_code)] // vector code; every pointer stays within one row of logits

use crate::check::check_len;
use crate::dispatch::dispatch;
use crate::isa::current_isa;
use crate::math::exp;
use crate::matmul::{Matrix, Start, product};
use crate::precision::MatmulPrecision;
use crate::profile::{Kernel, timer};
use crate::scratch::{Slot, with_scratch};
use mor_math::simd::Simd;
use rayon::prelude::*;

/// Logits that are in memory at a time: 16 MiB, half of a common third-level cache.
const CHUNK_LOGITS: usize = 4 * 1024 * 1024;
/// Fewest rows at a time: with fewer, packing the weights takes longer than using them.
const MIN_ROWS: usize = 128;

/// An integer type that holds token ids and targets.
pub trait TokenId: Copy + Send + Sync {
    /// The id as a signed number, so that `-100` and other ignore marks fit.
    fn to_i64(self) -> i64;
}

macro_rules! token_id {
    ($($int:ty),*) => {$(
        impl TokenId for $int {
            fn to_i64(self) -> i64 {
                i64::from(self)
            }
        }
    )*};
}
token_id!(i32, i64, u32, u16);

/// Sizes of an output head with its loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossEntropyShape {
    /// Rows of `hidden`, one target each.
    pub rows: usize,
    /// Width of `hidden` and `weight`.
    pub dim: usize,
    /// Rows of `weight`: possible targets.
    pub vocab: usize,
}

/// What a cross-entropy kernel adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum of the negative log-likelihoods (natural logarithm) of the counted rows.
    pub sum: f64,
    /// Rows that were counted.
    pub count: usize,
}

impl LossSum {
    /// The mean loss; zero where no row was counted.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum / self.count as f64
        }
    }
}

/// Loss and gradients of `softmax(hidden · weightᵀ)` against `targets`.
///
/// `hidden: [rows, dim]`, `weight: [vocab, dim]`, `targets: [rows]`. A row whose target equals
/// `ignore_index` or lies outside the vocabulary is not counted: no loss, no gradient.
/// `d_hidden: [rows, dim]` is overwritten with, and `d_weight: [vocab, dim]` *accumulates*, the
/// gradient of `scale` times the **sum** of losses: for a mean, pass one over the number of counted
/// targets. `row_losses: [rows]` receives each row's loss (0 where not counted).
///
/// ```
/// use mor_kernels::{CrossEntropyShape, MatmulPrecision, linear_cross_entropy};
///
/// let shape = CrossEntropyShape { rows: 2, dim: 1, vocab: 4 };
/// let (mut d_hidden, mut d_weight) = ([0.0; 2], [0.0; 4]);
/// let (precision, ignore) = (MatmulPrecision::F32, -100);
/// let loss = linear_cross_entropy(
///     precision, shape, &[1.0, 1.0], &[0.0; 4], &[3_i64, ignore], ignore, 1.0, &mut d_hidden, &mut d_weight, None,
/// );
/// // Four tokens are equally likely, and one of the targets counts.
/// assert_eq!(loss.count, 1);
/// assert!((loss.mean() - 4_f64.ln()).abs() < 1e-6);
/// assert!((d_weight[3] + 0.75).abs() < 1e-6 && (d_weight[0] - 0.25).abs() < 1e-6);
/// ```
#[allow(clippy::too_many_arguments)] // a kernel's operands, each with its own shape
pub fn linear_cross_entropy<T: TokenId>(
    precision: MatmulPrecision,
    shape: CrossEntropyShape,
    hidden: &[f32],
    weight: &[f32],
    targets: &[T],
    ignore_index: i64,
    scale: f32,
    d_hidden: &mut [f32],
    d_weight: &mut [f32],
    row_losses: Option<&mut [f32]>,
) -> LossSum {
    let _timer = timer(Kernel::CrossEntropy);
    check_len("d_hidden", d_hidden, &[shape.rows, shape.dim]);
    check_len("d_weight", d_weight, &[shape.vocab, shape.dim]);
    let gradients = Gradients {
        scale,
        d_hidden,
        d_weight,
    };
    run(
        precision,
        shape,
        hidden,
        weight,
        targets,
        ignore_index,
        Some(gradients),
        row_losses,
    )
}

/// The loss of [`linear_cross_entropy`] without gradients, for evaluation.
pub fn linear_cross_entropy_forward<T: TokenId>(
    precision: MatmulPrecision,
    shape: CrossEntropyShape,
    hidden: &[f32],
    weight: &[f32],
    targets: &[T],
    ignore_index: i64,
    row_losses: Option<&mut [f32]>,
) -> LossSum {
    let _timer = timer(Kernel::CrossEntropy);
    run(
        precision,
        shape,
        hidden,
        weight,
        targets,
        ignore_index,
        None,
        row_losses,
    )
}

struct Gradients<'a> {
    scale: f32,
    d_hidden: &'a mut [f32],
    d_weight: &'a mut [f32],
}

#[allow(clippy::too_many_arguments)] // as of what calls it
fn run<T: TokenId>(
    precision: MatmulPrecision,
    shape: CrossEntropyShape,
    hidden: &[f32],
    weight: &[f32],
    targets: &[T],
    ignore_index: i64,
    mut gradients: Option<Gradients<'_>>,
    mut row_losses: Option<&mut [f32]>,
) -> LossSum {
    let CrossEntropyShape { rows, dim, vocab } = shape;
    check_len("hidden", hidden, &[rows, dim]);
    check_len("weight", weight, &[vocab, dim]);
    check_len("targets", targets, &[rows]);
    if let Some(losses) = row_losses.as_deref_mut() {
        check_len("row_losses", losses, &[rows]);
        losses.fill(0.0);
    }
    let mut total = LossSum::default();
    if vocab == 0 {
        return total;
    }
    let isa = current_isa();
    let chunk = (CHUNK_LOGITS / vocab).max(MIN_ROWS).min(rows);
    let grad_scale = gradients.as_ref().map(|g| g.scale);
    let mut losses = vec![None; chunk];
    with_scratch(Slot::Logits, chunk * vocab, |logits| {
        for start in (0..rows).step_by(chunk.max(1)) {
            let n = chunk.min(rows - start);
            let x = &hidden[start * dim..(start + n) * dim];
            let logits = &mut logits[..n * vocab];
            let head = Matrix::transposed(weight, dim);
            product(
                precision,
                [n, vocab, dim],
                Matrix::row_major(x, dim),
                head,
                logits,
                Start::Zero,
            );
            logits
                .par_chunks_mut(vocab)
                .zip(&targets[start..start + n])
                .zip(&mut losses)
                .for_each(|((row, target), loss)| {
                    let target = target.to_i64();
                    let counted = target != ignore_index && (0..vocab as i64).contains(&target);
                    *loss = if counted {
                        // SAFETY: `isa` is available, and the target is within the row.
                        Some(unsafe { softmax_loss(isa, row, target as usize, grad_scale) })
                    } else {
                        row.fill(0.0);
                        None
                    };
                });
            for (i, loss) in losses[..n].iter().enumerate() {
                if let Some(loss) = *loss {
                    total.sum += f64::from(loss);
                    total.count += 1;
                    if let Some(losses) = row_losses.as_deref_mut() {
                        losses[start + i] = loss;
                    }
                }
            }
            if let Some(g) = &mut gradients {
                let d_logits = Matrix::row_major(logits, vocab);
                let d_hidden = &mut g.d_hidden[start * dim..(start + n) * dim];
                let head = Matrix::row_major(weight, dim);
                product(
                    precision,
                    [n, dim, vocab],
                    d_logits,
                    head,
                    d_hidden,
                    Start::Zero,
                );
                let d_logits = Matrix::transposed(logits, vocab);
                let x = Matrix::row_major(x, dim);
                product(
                    precision,
                    [vocab, dim, n],
                    d_logits,
                    x,
                    g.d_weight,
                    Start::Accumulate,
                );
            }
        }
    });
    total
}

dispatch! {
    fn softmax_loss(row: &mut [f32], target: usize, grad_scale: Option<f32>) -> f32 = softmax_loss_body
}

/// The loss of one row of logits; with a scale, the row becomes its gradient.
#[inline(always)]
unsafe fn softmax_loss_body<S: Simd>(
    row: &mut [f32],
    target: usize,
    grad_scale: Option<f32>,
) -> f32 {
    let len = row.len();
    let whole = len - len % S::LANES;
    let picked = row[target];
    // SAFETY: `whole + (len - whole)` numbers of the row are touched, none beyond.
    unsafe {
        let at = row.as_mut_ptr();
        let mut max = S::splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < whole {
            max = S::max(max, S::load(at.add(i)));
            i += S::LANES;
        }
        let mut max = S::max_lane(max);
        for v in &row[whole..] {
            max = max.max(*v);
        }
        let shift = S::splat(-max);
        let mut sum = S::splat(0.0);
        i = 0;
        while i < whole {
            sum = S::add(sum, exp::<S>(S::add(S::load(at.add(i)), shift)));
            i += S::LANES;
        }
        let mut sum = S::sum(sum);
        for v in &row[whole..] {
            sum += (v - max).exp();
        }
        if let Some(scale) = grad_scale {
            let factor = scale / sum;
            let scale_by = S::splat(factor);
            i = 0;
            while i < whole {
                let p = exp::<S>(S::add(S::load(at.add(i)), shift));
                S::store(at.add(i), S::mul(p, scale_by));
                i += S::LANES;
            }
            for v in &mut row[whole..] {
                *v = (*v - max).exp() * factor;
            }
            row[target] -= scale;
        }
        sum.ln() + max - picked
    }
}
