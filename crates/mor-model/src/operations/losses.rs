//! The cross-entropy of rows over a vocabulary.

use burn::tensor::{Int, Tensor};

use super::case::{Case, Operand, noise};
use super::linear::stored;
use crate::MatmulPrecision;
use crate::ops::{self, RowLosses, composed};

const F32: MatmulPrecision = MatmulPrecision::F32;
/// Target of a row that has no loss.
pub const IGNORE: i64 = -100;

/// Targets all over the vocabulary, its last token first; every third from the second on is ignored.
fn targets(rows: usize, vocab: usize) -> Vec<i64> {
    let target = |row: usize| match row % 3 {
        1 => IGNORE,
        _ => ((row * 31 + vocab - 1) % vocab) as i64,
    };
    (0..rows).map(target).collect()
}

/// The cross-entropy of rows `[1, rows, dim]` over the logits that a weight `[1, vocab, dim]` gives them, `[1, 1, rows]`; on
/// the CPU the composed form.
pub fn row_losses(x: &[Tensor<3>], targets: &[i64]) -> Tensor<3> {
    let [hidden, weight] = [0, 1].map(|at| x[at].clone().squeeze_dim(0));
    let targets = Tensor::<1, Int>::from_data(targets, &hidden.device());
    let losses = match ops::is_cpu(&hidden.device()) {
        true => composed::linear_cross_entropy_losses(hidden, weight, targets, IGNORE),
        false => match ops::linear_cross_entropy(F32, hidden, weight, targets, IGNORE).1 {
            RowLosses::Tensor(losses) => *losses,
            RowLosses::Values(losses) => Tensor::from_data(losses.as_slice(), &x[0].device()),
        },
    };
    losses.reshape([1, 1, -1])
}

/// As [`row_losses`], their mean over the rows that count, `[1, 1, 1]`.
pub fn mean_loss(x: &[Tensor<3>], targets: &[i64]) -> Tensor<3> {
    let [hidden, weight] = [0, 1].map(|at| x[at].clone().squeeze_dim(0));
    let targets = Tensor::<1, Int>::from_data(targets, &hidden.device());
    let (mean, _) = ops::linear_cross_entropy(F32, hidden, weight, targets, IGNORE);
    mean.reshape([1, 1, 1])
}

fn operand(rows: usize, dim: usize, seed: usize, scale: f32) -> Operand {
    let values = noise(rows * dim, seed).into_iter();
    (values.map(|x| x * scale).collect(), [1, rows, dim])
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, dim, vocab) in [
        (1, 2, 1),
        (4, 3, 7),
        (5, 8, 6),
        (9, 8, 257),
        (37, 4, 1025),
        (3, 4, 50_260),
        (2, 1, 300_000),
    ] {
        let operands = vec![operand(rows, dim, 1, 2.0), operand(vocab, dim, 2, 2.0)];
        // The gradient of `hidden` is a sum over the vocabulary, which each device adds up in its own order.
        let tolerance = 2e-5_f32.max(vocab as f32 * 4e-9);
        let what = format!("of {rows}, {dim}, {vocab}");
        let ids = targets(rows, vocab);
        let losses = Case::new(format!("losses {what}"), operands.clone(), {
            let ids = ids.clone();
            move |x| row_losses(x, &ids)
        });
        cases.push(losses.within(tolerance));
        let mean = Case::new(format!("mean loss {what}"), operands, move |x| {
            mean_loss(x, &ids)
        });
        cases.push(mean.within(tolerance));
    }
    let operands = vec![operand(9, 8, 1, 1.0), operand(1025, 8, 2, 1.0)];
    cases.push(Case::half("losses", operands, |x, dtype| {
        let operands = [stored(&x[0], dtype), x[1].clone()];
        row_losses(&operands, &targets(9, 1025))
    }));
    cases
}
