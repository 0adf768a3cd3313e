//! Causal attention, and the rotation of its queries and keys by position.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::case::{Case, Operand, noise};
use super::linear::stored;
use crate::ops::{self, Positions, composed};

/// Base of the rotary angles.
const BASE: f32 = 10_000.0;

/// Queries, keys and values of one shape.
fn triple(shape: [usize; 3]) -> Vec<Operand> {
    let len = shape.iter().product();
    (0..3).map(|seed| (noise(len, seed), shape)).collect()
}

pub(super) fn attention_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, heads, masked) in [
        ([1, 1, 8], 2, false),
        ([2, 4, 6], 2, true),
        ([2, 7, 24], 2, true),
        ([3, 37, 40], 2, true),
        ([1, 50, 128], 2, false),
        ([1, 9, 128], 1, true),
        ([1, 9, 256], 1, true),
    ] {
        let [batch, seq, dim] = shape;
        // The last row sees nothing before its middle, as with pads in front.
        let seen =
            (0..batch * seq).map(|at| at % 5 != 1 && (at + seq / 2 < batch * seq || at % seq > 2));
        let seen: Vec<bool> = seen.collect();
        let what = format!("attention of {shape:?}, {heads} heads");
        let case = Case::new(what, triple(shape), move |x| {
            let mask = masked.then(|| {
                let seen = TensorData::new(seen.clone(), [batch, seq]);
                Tensor::<2, Bool>::from_data(seen, &x[0].device())
            });
            let [q, k, v] = [x[0].clone(), x[1].clone(), x[2].clone()];
            // The CPU's kernels end at heads of 128.
            match dim / heads > 128 && ops::is_cpu(&q.device()) {
                true => composed::causal_attention(q, k, v, mask, heads),
                false => ops::causal_attention(q, k, v, mask, heads),
            }
        });
        cases.push(case.slow_to_compile(dim / heads > 64));
    }
    // On views: none is contiguous.
    cases.push(Case::new("attention of views", triple([2, 8, 6]), |x| {
        let [q, k, v] = [0, 1, 2].map(|at| x[at].clone().swap_dims(1, 2));
        ops::causal_attention(q, k, v, None, 2)
    }));
    let what = "attention, a row gathered and scattered";
    cases.push(Case::half(what, triple([2, 21, 40]), |x, dtype| {
        let [q, k, v] = [0, 1, 2].map(|at| stored(&x[at], dtype));
        let rows = Tensor::<1, Int>::from_data([1_i64], &q.device());
        let y = ops::causal_attention(q, k, v, None, 2);
        let row = ops::gather_rows(y.clone(), rows.clone(), 1);
        ops::scatter_rows(y, row * 2.0, rows)
    }));
    cases
}

/// Positions that neither count up nor fit the length.
fn scattered(count: usize) -> Arc<Positions> {
    let positions = (0..count).map(|at| (at * 5 % 11 * 7) as u32);
    Arc::new(positions.collect())
}

pub(super) fn rotary_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Tables grow, and serve shorter sequences. The last element of an odd head stays as it is.
    for (shape, heads) in [
        ([1, 1, 4], 2),
        ([1, 3, 10], 2),
        ([2, 19, 48], 4),
        ([1, 70, 48], 4),
        ([3, 5, 48], 4),
        ([2, 9, 256], 1),
    ] {
        let x = vec![(noise(shape.iter().product(), 1), shape)];
        let what = format!("rotary of {shape:?}, {heads} heads");
        let at_positions = format!("{what}, scattered");
        cases.push(Case::new(what, x.clone(), move |x| {
            ops::rotary(x[0].clone(), heads, BASE, None)
        }));
        let positions = scattered(shape[0] * shape[1]);
        cases.push(Case::new(at_positions, x, move |x| {
            ops::rotary(x[0].clone(), heads, BASE, Some(&positions))
        }));
    }
    // On views: neither is contiguous, the other starts within its buffer.
    let x = vec![(noise(3 * 8 * 6, 1), [3, 8, 6])];
    cases.push(Case::new("rotary of views", x, |x| {
        let turned = ops::rotary(x[0].clone().swap_dims(1, 2), 2, BASE, None);
        let part = ops::rotary(x[0].clone().narrow(0, 1, 2), 1, BASE, None);
        turned.swap_dims(1, 2).narrow(0, 0, 2) * part
    }));
    for positions in [None, Some(scattered(63))] {
        let x = vec![(noise(9 * 7 * 10, 1), [9, 7, 10])];
        let what = match positions {
            None => "rotary",
            Some(_) => "rotary, scattered",
        };
        let case = Case::half(what, x, move |x, dtype| {
            ops::rotary(stored(&x[0], dtype), 1, BASE, positions.as_ref())
        });
        cases.push(case.within(2e-3));
    }
    cases
}
