//! The output head and the softmax cross-entropy in one pass, without ever holding all logits.

use crate::check::check_len;
use crate::matmul::{Matrix, Start, product};

/// Rows whose logits are in memory at a time.
const CHUNK_ROWS: usize = 256;

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
#[allow(clippy::too_many_arguments)] // a kernel's operands, each with its own shape
pub fn linear_cross_entropy<T: TokenId>(
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
    check_len("d_hidden", d_hidden, &[shape.rows, shape.dim]);
    check_len("d_weight", d_weight, &[shape.vocab, shape.dim]);
    let gradients = Gradients {
        scale,
        d_hidden,
        d_weight,
    };
    run(
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
    shape: CrossEntropyShape,
    hidden: &[f32],
    weight: &[f32],
    targets: &[T],
    ignore_index: i64,
    row_losses: Option<&mut [f32]>,
) -> LossSum {
    run(
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

fn run<T: TokenId>(
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
    let mut logits = vec![0.0_f32; CHUNK_ROWS.min(rows) * vocab];
    for start in (0..rows).step_by(CHUNK_ROWS) {
        let n = CHUNK_ROWS.min(rows - start);
        let x = &hidden[start * dim..(start + n) * dim];
        let logits = &mut logits[..n * vocab];
        product(
            [n, vocab, dim],
            Matrix::row_major(x, dim),
            Matrix::transposed(weight, dim),
            logits,
            Start::Zero,
        );
        for (i, row) in logits.chunks_exact_mut(vocab.max(1)).enumerate() {
            let target = targets[start + i].to_i64();
            let counted = target != ignore_index && (0..vocab as i64).contains(&target);
            if !counted {
                row.fill(0.0);
                continue;
            }
            let target = target as usize;
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let picked = row[target];
            let mut sum = 0.0_f32;
            for v in row.iter_mut() {
                *v = (*v - max).exp();
                sum += *v;
            }
            let loss = sum.ln() + max - picked;
            total.sum += f64::from(loss);
            total.count += 1;
            if let Some(losses) = row_losses.as_deref_mut() {
                losses[start + i] = loss;
            }
            if let Some(gradients) = &gradients {
                let factor = gradients.scale / sum;
                for v in row.iter_mut() {
                    *v *= factor;
                }
                row[target] -= gradients.scale;
            }
        }
        if let Some(g) = &mut gradients {
            product(
                [n, dim, vocab],
                Matrix::row_major(logits, vocab),
                Matrix::row_major(weight, dim),
                &mut g.d_hidden[start * dim..(start + n) * dim],
                Start::Zero,
            );
            product(
                [vocab, dim, n],
                Matrix::transposed(logits, vocab),
                Matrix::row_major(x, dim),
                g.d_weight,
                Start::Accumulate,
            );
        }
    }
    total
}
