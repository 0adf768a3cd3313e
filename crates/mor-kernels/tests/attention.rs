//! Attention and rotary positions against naive f64 versions and numerical gradients.

mod common;

use common::{assert_close, dot, numerical_gradient, on_every_isa, random, wide};
use mor_kernels::*;

/// Naive attention: output and logsumexp.
fn reference(
    shape: AttentionShape,
    q: &[f64],
    k: &[f64],
    v: &[f64],
    mask: Option<&[bool]>,
) -> (Vec<f64>, Vec<f64>) {
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    let width = heads * head_dim;
    let mut out = vec![0.0; q.len()];
    let mut lse = vec![f64::NEG_INFINITY; batch * heads * seq];
    for b in 0..batch {
        for h in 0..heads {
            for t in 0..seq {
                let at = |s: usize, i: usize| (b * seq + s) * width + h * head_dim + i;
                let seen: Vec<usize> = (0..=t)
                    .filter(|&s| mask.is_none_or(|m| m[b * seq + s]))
                    .collect();
                if seen.is_empty() {
                    continue;
                }
                let scores: Vec<f64> = seen
                    .iter()
                    .map(|&s| {
                        (0..head_dim)
                            .map(|i| q[at(t, i)] * k[at(s, i)])
                            .sum::<f64>()
                    })
                    .map(|sum| (sum / (head_dim as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = scores.iter().sum();
                lse[(b * heads + h) * seq + t] = sum.ln();
                for (&s, score) in seen.iter().zip(&scores) {
                    for i in 0..head_dim {
                        out[at(t, i)] += score / sum * v[at(s, i)];
                    }
                }
            }
        }
    }
    (out, lse)
}

fn random_mask(shape: AttentionShape) -> Vec<bool> {
    let mut mask: Vec<bool> = random(9, shape.batch * shape.seq)
        .into_iter()
        .map(|v| v > -0.4)
        .collect();
    // Padding on the left: the first positions of the first sequence see nothing.
    mask[0] = false;
    if shape.seq > 3 {
        mask[1] = false;
    }
    mask
}

#[test]
fn forward_matches_the_reference() {
    on_every_isa(check_forward_matches_the_reference);
}

fn check_forward_matches_the_reference() {
    for (batch, seq, heads, head_dim) in [
        (1, 1, 1, 12),
        (2, 7, 3, 12),
        (2, 33, 2, 64),
        (1, 100, 2, 80),
        (1, 65, 1, 128),
        (1, 70, 2, 16),
        (1, 300, 1, 33),
    ] {
        let shape = AttentionShape {
            batch,
            seq,
            heads,
            head_dim,
        };
        let len = batch * seq * heads * head_dim;
        let [q, k, v] = [1, 2, 3].map(|seed| random(seed, len));
        let k: Vec<f32> = k.iter().map(|x| x * 3.0).collect();
        let mask = random_mask(shape);
        for mask in [None, Some(&mask[..])] {
            let (mut out, mut lse) = (vec![f32::NAN; len], vec![f32::NAN; batch * heads * seq]);
            causal_attention_forward(shape, &q, &k, &v, mask, &mut out, &mut lse);
            let (wanted, wanted_lse) = reference(shape, &wide(&q), &wide(&k), &wide(&v), mask);
            assert_close("out", &out, &wanted, 1e-5);
            for (got, wanted) in lse.iter().zip(wanted_lse) {
                let same = f64::from(*got) == wanted || (f64::from(*got) - wanted).abs() < 1e-5;
                assert!(same, "logsumexp {got} instead of {wanted}");
            }
        }
    }
}

#[test]
fn gradients_match_finite_differences() {
    for (batch, seq, heads, head_dim) in
        [(1, 1, 1, 12), (2, 7, 2, 12), (1, 35, 1, 5), (1, 18, 1, 64)]
    {
        let shape = AttentionShape {
            batch,
            seq,
            heads,
            head_dim,
        };
        let len = batch * seq * heads * head_dim;
        let [q, k, v, d_out] = [1, 2, 3, 4].map(|seed| random(seed, len));
        let mask = random_mask(shape);
        for mask in [None, Some(&mask[..])] {
            let (wq, wk, wv) = (wide(&q), wide(&k), wide(&v));
            let loss =
                |q: &[f64], k: &[f64], v: &[f64]| dot(&reference(shape, q, k, v, mask).0, &d_out);
            let wanted_dq = numerical_gradient(&wq, |q| loss(q, &wk, &wv));
            let wanted_dk = numerical_gradient(&wk, |k| loss(&wq, k, &wv));
            let wanted_dv = numerical_gradient(&wv, |v| loss(&wq, &wk, v));
            on_every_isa(|| {
                let (mut out, mut lse) = (vec![0.0; len], vec![0.0; batch * heads * seq]);
                causal_attention_forward(shape, &q, &k, &v, mask, &mut out, &mut lse);
                let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![f32::NAN; len]);
                causal_attention_backward(
                    shape, &q, &k, &v, mask, &out, &lse, &d_out, &mut dq, &mut dk, &mut dv,
                );
                assert_close("dq", &dq, &wanted_dq, 1e-5);
                assert_close("dk", &dk, &wanted_dk, 1e-5);
                assert_close("dv", &dv, &wanted_dv, 1e-5);
            });
        }
    }
}

/// The gradient of a long sequence, written out in f64, since differences would take too long.
#[test]
fn long_sequences_match_the_analytic_gradient() {
    on_every_isa(check_long_sequences_match_the_analytic_gradient);
}

fn check_long_sequences_match_the_analytic_gradient() {
    let shape = AttentionShape {
        batch: 2,
        seq: 150,
        heads: 2,
        head_dim: 64,
    };
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    let width = heads * head_dim;
    let len = batch * seq * width;
    let [q, k, v, d_out] = [1, 2, 3, 4].map(|seed| random(seed, len));
    let mask = random_mask(shape);
    let (mut out, mut lse) = (vec![0.0; len], vec![0.0; batch * heads * seq]);
    causal_attention_forward(shape, &q, &k, &v, Some(&mask), &mut out, &mut lse);
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![f32::NAN; len]);
    causal_attention_backward(
        shape,
        &q,
        &k,
        &v,
        Some(&mask),
        &out,
        &lse,
        &d_out,
        &mut dq,
        &mut dk,
        &mut dv,
    );
    let (q, k, v, d_out) = (wide(&q), wide(&k), wide(&v), wide(&d_out));
    let (out, lse) = reference(shape, &q, &k, &v, Some(&mask));
    let [mut wq, mut wk, mut wv] = [(); 3].map(|()| vec![0.0; len]);
    let scale = 1.0 / (head_dim as f64).sqrt();
    for b in 0..batch {
        for h in 0..heads {
            let at = |s: usize| (b * seq + s) * width + h * head_dim;
            let sum = |x: &[f64], i: usize, y: &[f64], j: usize| -> f64 {
                (0..head_dim).map(|n| x[i + n] * y[j + n]).sum()
            };
            for t in 0..seq {
                for s in (0..=t).filter(|&s| mask[b * seq + s]) {
                    let (t_at, s_at) = (at(t), at(s));
                    let p =
                        (sum(&q, t_at, &k, s_at) * scale - lse[(b * heads + h) * seq + t]).exp();
                    let delta = sum(&d_out, t_at, &out, t_at);
                    let ds = p * (sum(&d_out, t_at, &v, s_at) - delta) * scale;
                    for n in 0..head_dim {
                        wq[t_at + n] += ds * k[s_at + n];
                        wk[s_at + n] += ds * q[t_at + n];
                        wv[s_at + n] += p * d_out[t_at + n];
                    }
                }
            }
        }
    }
    assert_close("dq", &dq, &wq, 1e-5);
    assert_close("dk", &dk, &wk, 1e-5);
    assert_close("dv", &dv, &wv, 1e-5);
}

#[test]
fn rotary_matches_the_reference_and_inverts() {
    on_every_isa(check_rotary_matches_the_reference_and_inverts);
}

fn check_rotary_matches_the_reference_and_inverts() {
    for (batch, seq, heads, head_dim) in [(1, 1, 1, 2), (2, 7, 3, 12), (1, 33, 2, 64), (1, 5, 2, 7)]
    {
        let shape = AttentionShape {
            batch,
            seq,
            heads,
            head_dim,
        };
        let x = random(1, batch * seq * heads * head_dim);
        let mut wanted = wide(&x);
        let half = head_dim / 2;
        for (row, x) in wanted.chunks_mut(heads * head_dim).enumerate() {
            for head in x.chunks_mut(head_dim) {
                for i in 0..half {
                    let angle =
                        (row % seq) as f64 * 10_000_f64.powf(-2.0 * i as f64 / head_dim as f64);
                    let (a, b) = (head[i], head[i + half]);
                    head[i] = a * angle.cos() - b * angle.sin();
                    head[i + half] = b * angle.cos() + a * angle.sin();
                }
            }
        }
        let mut rotated = x.clone();
        rotary_forward(shape, 10_000.0, None, &mut rotated);
        assert_close("rotated", &rotated, &wanted, 1e-6);
        // A rotation's gradient is its inverse.
        rotary_backward(shape, 10_000.0, None, &mut rotated);
        assert_close("turned back", &rotated, &wide(&x), 1e-6);
    }
}
