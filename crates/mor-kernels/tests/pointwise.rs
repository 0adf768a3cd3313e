//! GELU, layer normalisation, embedding and optimizer kernels against f64.

mod common;

use common::{F32, assert_close, dot, numerical_gradient, on_every_isa, random, wide};
use mor_kernels::*;

/// The normal distribution function by a series near zero and a continued fraction in the tails.
fn normal_cumulative(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= x * x / (2 * n + 1) as f64;
            sum += term;
        }
        0.5 + sum * density
    } else {
        let a = x.abs();
        let fraction = (1..200).rev().fold(a, |f, n| a + n as f64 / f);
        let upper = density / fraction;
        if x > 0.0 { 1.0 - upper } else { upper }
    }
}

#[test]
fn gelu_is_exact_over_its_range() {
    on_every_isa(check_gelu_is_exact_over_its_range);
}

fn check_gelu_is_exact_over_its_range() {
    let x: Vec<f32> = (-120_000..=120_000)
        .map(|i| i as f32 / 10_000.0)
        .chain([-40.0, 40.0, -1e30, 1e30])
        .collect();
    let mut y = vec![f32::NAN; x.len()];
    gelu_forward(&x, &mut y);
    let ones = vec![1.0; x.len()];
    let mut dx = vec![f32::NAN; x.len()];
    gelu_backward(&x, &ones, &mut dx);
    for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
        let x = f64::from(x);
        let cumulative = normal_cumulative(x);
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let wanted = x * cumulative;
        let error = (f64::from(y) - wanted).abs();
        assert!(
            error <= 3e-7 * wanted.abs().max(1.0),
            "gelu({x}) = {y}, not {wanted}"
        );
        let wanted = cumulative + if density == 0.0 { 0.0 } else { x * density };
        assert!(
            (f64::from(dx) - wanted).abs() <= 5e-7,
            "gelu'({x}) = {dx}, not {wanted}"
        );
    }
}

#[test]
fn gelu_handles_odd_lengths() {
    on_every_isa(check_gelu_handles_odd_lengths);
}

fn check_gelu_handles_odd_lengths() {
    for len in [0, 1, 7, 33, 16_385] {
        let x = random(1, len);
        let dy = random(2, len);
        let (mut y, mut dx) = (vec![f32::NAN; len], vec![f32::NAN; len]);
        gelu_forward(&x, &mut y);
        gelu_backward(&x, &dy, &mut dx);
        let wanted: Vec<f64> = wide(&x).iter().map(|&x| x * normal_cumulative(x)).collect();
        assert_close("y", &y, &wanted, 1e-6);
        let wanted: Vec<f64> = wide(&x)
            .iter()
            .zip(wide(&dy))
            .map(|(&x, dy)| {
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                dy * (normal_cumulative(x) + x * density)
            })
            .collect();
        assert_close("dx", &dx, &wanted, 1e-6);
    }
}

fn layer_norm(x: &[f64], gain: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let dim = gain.len();
    x.chunks(dim)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / dim as f64;
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / dim as f64;
            (0..dim).map(move |j| (row[j] - mean) / (var + eps).sqrt() * gain[j] + bias[j])
        })
        .collect()
}

#[test]
fn layer_norm_matches_reference_and_differences() {
    on_every_isa(check_layer_norm_matches_reference_and_differences);
}

fn check_layer_norm_matches_reference_and_differences() {
    for (rows, dim) in [(1, 3), (7, 12), (5, 33), (70, 5), (3, 48)] {
        let x: Vec<f32> = random(1, rows * dim).iter().map(|v| v + 3.0).collect();
        let [r, dy] = [2, 3].map(|seed| random(seed, rows * dim));
        let [gain, bias] = [4, 5].map(|seed| random(seed, dim));
        let (mut y, mut sum) = (vec![f32::NAN; rows * dim], vec![f32::NAN; rows * dim]);
        let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
        for residual in [false, true] {
            let added: Vec<f32> = if residual {
                x.iter().zip(&r).map(|(a, b)| a + b).collect()
            } else {
                x.clone()
            };
            let extra = residual.then_some((&r[..], &mut sum[..]));
            layer_norm_forward(&x, extra, &gain, &bias, 1e-5, &mut y, &mut mean, &mut rstd);
            let (wx, wg, wb) = (wide(&added), wide(&gain), wide(&bias));
            assert_close("y", &y, &layer_norm(&wx, &wg, &wb, 1e-5), 1e-5);
            if residual {
                assert_eq!(sum, added);
            }
            let [mut dx, mut dgain, mut dbias] =
                [rows * dim, dim, dim].map(|len| vec![f32::NAN; len]);
            layer_norm_backward(
                &added, &gain, &mean, &rstd, &dy, &mut dx, &mut dgain, &mut dbias,
            );
            let loss = |x: &[f64], g: &[f64], b: &[f64]| dot(&layer_norm(x, g, b, 1e-5), &dy);
            assert_close(
                "dx",
                &dx,
                &numerical_gradient(&wx, |x| loss(x, &wg, &wb)),
                1e-5,
            );
            assert_close(
                "dgain",
                &dgain,
                &numerical_gradient(&wg, |g| loss(&wx, g, &wb)),
                1e-5,
            );
            assert_close(
                "dbias",
                &dbias,
                &numerical_gradient(&wb, |b| loss(&wx, &wg, b)),
                1e-5,
            );
        }
    }
}

#[test]
fn embedding_gradient_adds_rows_up() {
    let ids = [2_i64, 0, 2, -1, 9];
    let dy = random(1, 5 * 3);
    let mut table = vec![1.0; 4 * 3];
    embedding_backward(&ids, 3, &dy, &mut table);
    let mut wanted = vec![1.0; 4 * 3];
    for j in 0..3 {
        wanted[6 + j] += f64::from(dy[j]) + f64::from(dy[6 + j]);
        wanted[j] += f64::from(dy[3 + j]);
    }
    assert_close("table", &table, &wanted, 1e-6);
}

#[test]
fn adamw_follows_the_formula() {
    on_every_isa(check_adamw_follows_the_formula);
}

fn check_adamw_follows_the_formula() {
    for len in [1, 7, 33, 20_000] {
        let [param, grad] = [1, 2].map(|seed| random(seed, len));
        let (mut p, mut m, mut v) = (param.clone(), vec![0.0; len], vec![0.0; len]);
        let (mut wp, mut wm, mut wv) = (wide(&param), vec![0.0; len], vec![0.0; len]);
        for step in 1..=3 {
            let settings = AdamW {
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-8,
                weight_decay: 0.1,
                grad_scale: 0.5,
                step,
            };
            adamw_step(&settings, &mut p, &grad, &mut m, &mut v);
            for i in 0..len {
                let g = f64::from(grad[i]) * 0.5;
                wm[i] = 0.9 * wm[i] + 0.1 * g;
                wv[i] = 0.99 * wv[i] + 0.01 * g * g;
                let mean = wm[i] / (1.0 - 0.9_f64.powi(step as i32));
                let root = (wv[i] / (1.0 - 0.99_f64.powi(step as i32))).sqrt();
                wp[i] = wp[i] * (1.0 - 1e-3) - 1e-2 * mean / (root + 1e-8);
            }
        }
        assert_close("param", &p, &wp, 1e-5);
        assert_close("first", &m, &wm, 1e-5);
        assert_close("second", &v, &wv, 1e-5);
        let squares: f64 = wide(&grad).iter().map(|g| g * g).sum();
        assert!((sum_squares(&grad) - squares).abs() < 1e-5 * squares);
    }
}

#[test]
fn muon_orthogonalizes() {
    on_every_isa(check_muon_orthogonalizes);
}

fn check_muon_orthogonalizes() {
    for (rows, cols) in [(1, 1), (7, 33), (33, 7), (40, 40)] {
        let g = random(1, rows * cols);
        let mut out = vec![f32::NAN; rows * cols];
        muon_orthogonalize(F32, [rows, cols], &g, &mut out);
        // The same iteration in f64.
        let norm = wide(&g).iter().map(|v| v * v).sum::<f64>().sqrt() + 1e-7;
        let mut x: Vec<f64> = wide(&g).iter().map(|v| v / norm).collect();
        for _ in 0..5 {
            let gram = |x: &[f64]| -> Vec<f64> {
                (0..rows * rows)
                    .map(|ij| {
                        let (i, j) = (ij / rows, ij % rows);
                        (0..cols).map(|c| x[i * cols + c] * x[j * cols + c]).sum()
                    })
                    .collect()
            };
            let a = gram(&x);
            let mut next = vec![0.0; rows * cols];
            for i in 0..rows {
                for j in 0..rows {
                    let square: f64 = (0..rows).map(|p| a[i * rows + p] * a[p * rows + j]).sum();
                    let factor = -4.7750 * a[i * rows + j] + 2.0315 * square;
                    for c in 0..cols {
                        next[i * cols + c] += factor * x[j * cols + c];
                    }
                }
                for c in 0..cols {
                    next[i * cols + c] += 3.4445 * x[i * cols + c];
                }
            }
            x = next;
        }
        assert_close("out", &out, &x, 2e-4);
    }
    let mut out = vec![f32::NAN; 6];
    muon_orthogonalize(F32, [2, 3], &[0.0; 6], &mut out);
    assert_eq!(out, [0.0; 6]);
}
