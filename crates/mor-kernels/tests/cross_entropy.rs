//! The fused output head against a naive f64 version and numerical gradients.

mod common;

use common::{F32, assert_close, numerical_gradient, on_every_isa, random, wide};
use mor_kernels::*;

fn reference(
    shape: CrossEntropyShape,
    hidden: &[f64],
    weight: &[f64],
    targets: &[i64],
) -> Vec<f64> {
    let CrossEntropyShape { dim, vocab, .. } = shape;
    targets
        .iter()
        .zip(hidden.chunks(dim))
        .map(|(&target, x)| {
            if !(0..vocab as i64).contains(&target) {
                return 0.0;
            }
            let logits: Vec<f64> = weight
                .chunks(dim)
                .map(|w| w.iter().zip(x).map(|(a, b)| a * b).sum())
                .collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
            sum.ln() + max - logits[target as usize]
        })
        .collect()
}

#[test]
fn loss_and_gradients_match() {
    on_every_isa(check_loss_and_gradients_match);
}

fn check_loss_and_gradients_match() {
    for (rows, dim, vocab) in [
        (1, 3, 5),
        (7, 12, 33),
        (33, 5, 17),
        (300, 4, 9),
        (2, 8, 700),
    ] {
        let shape = CrossEntropyShape { rows, dim, vocab };
        let hidden: Vec<f32> = random(1, rows * dim).iter().map(|v| v * 3.0).collect();
        let weight: Vec<f32> = random(2, vocab * dim).iter().map(|v| v * 3.0).collect();
        let targets: Vec<i64> = (0..rows)
            .map(|i| {
                if i % 5 == 3 {
                    -100
                } else {
                    (i * 7 % vocab) as i64
                }
            })
            .collect();
        let count = targets.iter().filter(|t| **t >= 0).count();
        let scale = 1.0 / count as f32;
        let mut d_hidden = vec![f32::NAN; rows * dim];
        let mut d_weight = vec![0.5; vocab * dim];
        let mut losses = vec![f32::NAN; rows];
        let total = linear_cross_entropy(
            F32,
            shape,
            &hidden,
            &weight,
            &targets,
            -100,
            scale,
            &mut d_hidden,
            &mut d_weight,
            Some(&mut losses),
        );
        let (h, w) = (wide(&hidden), wide(&weight));
        let wanted = reference(shape, &h, &w, &targets);
        assert_close("losses", &losses, &wanted, 1e-5);
        assert_eq!(total.count, count);
        assert!((total.sum - wanted.iter().sum::<f64>()).abs() < 1e-5 * total.sum.max(1.0));

        let mut losses_only = vec![f32::NAN; rows];
        let again = linear_cross_entropy_forward(
            F32,
            shape,
            &hidden,
            &weight,
            &targets,
            -100,
            Some(&mut losses_only),
        );
        assert_eq!(again.count, count);
        assert_close("losses alone", &losses_only, &wanted, 1e-5);

        if rows * dim * vocab <= 7 * 12 * 33 {
            let mean = |h: &[f64], w: &[f64]| {
                reference(shape, h, w, &targets).iter().sum::<f64>() / count as f64
            };
            let wanted = numerical_gradient(&h, |h| mean(h, &w));
            assert_close("d_hidden", &d_hidden, &wanted, 1e-5);
            let mut wanted = numerical_gradient(&w, |w| mean(&h, w));
            wanted.iter_mut().for_each(|v| *v += 0.5);
            assert_close("d_weight", &d_weight, &wanted, 1e-5);
        }
    }
}
