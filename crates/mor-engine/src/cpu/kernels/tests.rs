//! Every instruction set against plain code, and plain code against its formula.

use proptest::prelude::*;
use safetensors::{Dtype, tensor::TensorView};

use super::attention::{HIDDEN, Query};
use super::matmul::Activation;
use super::matrix::{Matrix, Packing, padded};
use super::{Isa, Kernels, Linear};
use crate::cpu::pool::Pool;
use crate::model::Tensor;
use mor_math::SplitMix64;

fn values(rng: &mut SplitMix64, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.uniform_f32() * 4.0 - 2.0).collect()
}

fn assert_close(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= 2e-5 * e.abs().max(1.0),
            "{what}: {i} is {a}, not {e}"
        );
    }
}

fn pack(weights: &[f32], cols: usize, packing: Packing) -> Matrix {
    Matrix::pack(&[Tensor::made(weights.to_vec())], cols, packing).expect("made")
}

/// A linear layer for some rows on two threads, `[token][rows, padded]`.
fn run(isa: Isa, linear: &Linear, input: &[f32], activation: Activation) -> Vec<f32> {
    let (rows, cols) = (linear.matrix.rows(), linear.matrix.cols());
    let tokens = input.len() / cols;
    let mut wide = vec![f32::NAN; tokens * padded(cols)];
    for (wide, row) in wide.chunks_mut(padded(cols)).zip(input.chunks(cols)) {
        wide[..cols].copy_from_slice(row);
    }
    let mut output = vec![f32::NAN; tokens * padded(rows)];
    let mut pool = Pool::new(2).expect("threads");
    Kernels::new(isa).rows_on(&mut pool, linear, &wide, &mut output, tokens, activation);
    output
}

#[test]
fn products_match_the_formula() {
    let mut rng = SplitMix64::new(1);
    for (rows, cols) in [(1, 1), (16, 16), (97, 50), (40, 131)] {
        // Short binary fractions: the same in f16.
        let weights: Vec<f32> = (0..rows * cols)
            .map(|_| (rng.uniform_f32() * 64.0).floor() / 32.0 - 1.0)
            .collect();
        let mut bias = values(&mut rng, rows);
        bias.resize(padded(rows), 0.0);
        for tokens in 1..12 {
            let input = values(&mut rng, tokens * cols);
            for gelu in [false, true] {
                let mut expected = vec![0.0; tokens * padded(rows)];
                for (token, input) in input.chunks_exact(cols).enumerate() {
                    for (row, weights) in weights.chunks_exact(cols).enumerate() {
                        let product = weights
                            .iter()
                            .zip(input)
                            .map(|(w, x)| f64::from(w * x))
                            .sum::<f64>();
                        let x = product as f32 + bias[row];
                        expected[token * padded(rows) + row] = if gelu { exact_gelu(x) } else { x };
                    }
                }
                for packing in [Packing::F32, Packing::F16] {
                    let linear = Linear {
                        matrix: pack(&weights, cols, packing),
                        bias: bias.clone(),
                    };
                    let activation = if gelu {
                        Activation::Gelu
                    } else {
                        Activation::None
                    };
                    for isa in Isa::available() {
                        let actual = run(isa, &linear, &input, activation);
                        let what = format!("{rows} x {cols}, {tokens} tokens, {}", isa.name());
                        assert_close(&actual, &expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn every_f16_is_widened() {
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    for isa in Isa::available() {
        for part in halves.chunks(4096) {
            // A matrix of one column, times 1.
            let matrix = Matrix::pack(
                &[Tensor::made(part.iter().map(|x| x.to_f32()).collect())],
                1,
                Packing::F16,
            )
            .expect("made");
            let linear = Linear {
                matrix,
                bias: Vec::new(),
            };
            for (actual, half) in run(isa, &linear, &[1.0], Activation::None).iter().zip(part) {
                let expected = half.to_f32();
                let same = *actual == expected || actual.is_nan() && expected.is_nan();
                assert!(same, "{actual}, not {expected}, {}", isa.name());
            }
        }
    }
}

/// Int8 products against sums of the very same rounded numbers.
fn check_q8(rows: usize, cols: usize, tokens: usize, seed: u64) {
    let mut rng = SplitMix64::new(seed);
    let weights = values(&mut rng, rows * cols);
    let mut input = values(&mut rng, tokens * cols);
    // Blocks of very different sizes, and one of zeros.
    for (i, block) in input.chunks_mut(32).enumerate() {
        let size = [1.0, 0.0, 1e-3, 300.0][i % 4];
        block.iter_mut().for_each(|x| *x *= size);
    }
    let matrix = pack(&weights, cols, Packing::Q8);
    let mut rounded = vec![0.0; rows * cols];
    for (row, out) in rounded.chunks_mut(cols).enumerate() {
        matrix.copy_row(row, out);
    }
    let steps = weights.iter().zip(&rounded).map(|(w, r)| (w - r).abs());
    assert!(steps.fold(0.0, f32::max) <= 2.0 / 127.0 * 0.51);
    let round = |row: &[f32]| -> Vec<f32> {
        let blocks = row.chunks(32).flat_map(|block| {
            let largest = block.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let round = move |x: &f32| (x * inverse).round_ties_even() * (largest / 127.0);
            block.iter().map(round)
        });
        blocks.collect()
    };
    let mut expected = vec![0.0; tokens * padded(rows)];
    let mut sizes = vec![0.0; tokens * padded(rows)];
    for (token, input) in input.chunks(cols).enumerate() {
        let input = round(input);
        for (row, weights) in rounded.chunks(cols).enumerate() {
            let products = weights.iter().zip(&input).map(|(w, x)| f64::from(w * x));
            expected[token * padded(rows) + row] = products.clone().sum::<f64>() as f32;
            sizes[token * padded(rows) + row] = products.map(f64::abs).sum::<f64>() as f32;
        }
    }
    let linear = Linear {
        matrix,
        bias: Vec::new(),
    };
    for isa in Isa::available() {
        let actual = run(isa, &linear, &input, Activation::None);
        for (i, ((a, e), size)) in actual.iter().zip(&expected).zip(&sizes).enumerate() {
            assert!(
                (a - e).abs() <= 2e-6 * size + 1e-9,
                "{rows} x {cols}, {tokens} tokens, {}: {i} is {a}, not {e}",
                isa.name()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn q8_products_match_the_formula(
        rows in 1_usize..70,
        cols in 1_usize..140,
        tokens in 1_usize..20,
        seed: u64,
    ) {
        check_q8(rows, cols, tokens, seed);
    }
}

#[test]
fn q8_survives_extremes() {
    // No writer makes the most negative value, but a file may hold it; it meets inputs of either sign.
    let scales: Vec<u8> = [half::f16::ONE.to_le_bytes(); 2 * 17].concat();
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("bytes fit");
    let file = [
        ("w", view(Dtype::I8, vec![17, 64], &[0x80; 17 * 64])),
        ("w.scales", view(Dtype::F16, vec![17, 2], &scales)),
    ];
    let file = safetensors::serialize(file, None).expect("serializable");
    let file = mor_config::Weights::from_bytes(file, std::path::Path::new("w")).expect("whole");
    for isa in Isa::available() {
        let tensor = Tensor::open(&file, "w").expect("there");
        let linear = Linear {
            matrix: Matrix::pack(&[tensor], 64, Packing::Q8).expect("finite"),
            bias: Vec::new(),
        };
        for (sign, tokens) in [(1.0, 1), (-1.0, 1), (1.0, 9), (-1.0, 9)] {
            let input = vec![sign * 5.0; tokens * 64];
            let output = run(isa, &linear, &input, Activation::None);
            for row in output.chunks(32) {
                let expected = [-128.0 * 5.0 * 64.0 * sign; 17];
                assert_close(&row[..17], &expected, isa.name());
            }
        }
        // What is not a number stays none.
        let mut input = vec![1.0; 64];
        input[3] = f32::NAN;
        assert!(run(isa, &linear, &input, Activation::None)[0].is_nan());
    }
}

/// By numerical integration of the normal density.
fn exact_gelu(x: f32) -> f32 {
    const STEPS: u32 = 2000;
    let x = f64::from(x);
    let h = x / f64::from(STEPS);
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    // Simpson's rule.
    let sum: f64 = (0..=STEPS)
        .map(|i| {
            let weight = if i == 0 || i == STEPS {
                1.0
            } else {
                2.0 + 2.0 * f64::from(i % 2)
            };
            weight * density(f64::from(i) * h)
        })
        .sum();
    (x * (0.5 + sum * h / 3.0)) as f32
}

#[test]
fn norms_match_the_formula() {
    let mut rng = SplitMix64::new(2);
    for dim in [1, 5, 16, 48, 50, 384] {
        let [x, add, gain, bias] = [(); 4].map(|()| values(&mut rng, dim));
        for with_add in [false, true] {
            let y: Vec<f64> = x
                .iter()
                .zip(&add)
                .map(|(x, a)| f64::from(*x) + if with_add { f64::from(*a) } else { 0.0 })
                .collect();
            let mean = y.iter().sum::<f64>() / dim as f64;
            let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / dim as f64;
            let expected: Vec<f32> = (0..dim)
                .map(|i| {
                    let normal = (y[i] - mean) / (variance + 1e-5).sqrt();
                    (normal * f64::from(gain[i]) + f64::from(bias[i])) as f32
                })
                .collect();
            for isa in Isa::available() {
                let mut actual = x.clone();
                let out = actual.as_mut_ptr();
                let add = if with_add {
                    add.as_ptr()
                } else {
                    std::ptr::null()
                };
                // SAFETY: all buffers are `dim` long.
                unsafe { Kernels::new(isa).add_norm(out, add, (&gain, &bias), 1e-5, out) };
                assert_close(&actual, &expected, &format!("{dim} on {}", isa.name()));
            }
        }
    }
}

#[test]
fn attention_matches_the_formula() {
    let mut rng = SplitMix64::new(3);
    for (head_dim, len, capacity) in [(12, 1, 32), (64, 16, 16), (20, 33, 48), (64, 100, 128)] {
        let q = values(&mut rng, head_dim);
        let keys: Vec<Vec<f32>> = (0..capacity).map(|_| values(&mut rng, head_dim)).collect();
        let channels: Vec<Vec<f32>> = (0..capacity).map(|_| values(&mut rng, head_dim)).collect();
        let mut packed_keys = vec![0.0; capacity * head_dim];
        let mut packed_values = vec![0.0; capacity * padded(head_dim)];
        for position in 0..capacity {
            for channel in 0..head_dim {
                packed_keys[position / 16 * head_dim * 16 + channel * 16 + position % 16] =
                    keys[position][channel];
                packed_values[(channel / 16 * capacity + position) * 16 + channel % 16] =
                    channels[position][channel];
            }
        }
        for hide in [0, 1, len] {
            let mut mask = vec![0.0; capacity];
            mask[..hide].fill(HIDDEN);
            let seen: Vec<usize> = (hide..len).collect();
            let weight = |position: usize| {
                let score = keys[position].iter().zip(&q).map(|(k, q)| f64::from(k * q));
                score.sum::<f64>().exp()
            };
            let total: f64 = seen.iter().map(|p| weight(*p)).sum();
            let expected: Vec<f32> = (0..head_dim)
                .map(|c| {
                    let mixed = seen.iter().map(|p| weight(*p) * f64::from(channels[*p][c]));
                    if seen.is_empty() {
                        0.0
                    } else {
                        (mixed.sum::<f64>() / total) as f32
                    }
                })
                .collect();
            for isa in Isa::available() {
                let mut scores = vec![0.0; capacity];
                let mut out = vec![0.0; padded(head_dim)];
                let query = Query {
                    q: q.as_ptr(),
                    keys: packed_keys.as_ptr(),
                    values: packed_values.as_ptr(),
                    mask: mask.as_ptr(),
                    len,
                    head_dim,
                    capacity,
                    scores: scores.as_mut_ptr(),
                    out: out.as_mut_ptr(),
                };
                // SAFETY: the buffers have the query's shapes.
                unsafe { Kernels::new(isa).attend(&query) };
                let what = format!("{len} keys, {hide} hidden, {}", isa.name());
                assert_close(&out[..head_dim], &expected, &what);
            }
        }
    }
}

#[test]
fn exponentials_and_sums_match() {
    let mut rng = SplitMix64::new(4);
    for len in [1, 16, 97] {
        let x = values(&mut rng, len);
        let expected: Vec<f32> = x.iter().map(|x| ((x - 2.0) * 3.0).exp()).collect();
        for isa in Isa::available() {
            let mut out = vec![0.0; len];
            let total = Kernels::new(isa).exponentials(&x, 2.0, 3.0, &mut out);
            assert_close(&out, &expected, isa.name());
            assert_close(&[total], &[expected.iter().sum()], isa.name());
        }
    }
    for isa in Isa::available() {
        assert_eq!(Kernels::new(isa).sum(&[0.5; 4096]), 2048.0);
    }
}
