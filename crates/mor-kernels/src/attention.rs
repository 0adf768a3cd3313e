//! Causal multi-head attention over `[batch, seq, heads · head_dim]`, without transposes.

use crate::check::check_len;
use rayon::prelude::*;

/// Sizes of multi-head attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub seq: usize,
    /// Heads, side by side in the last dimension.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl AttentionShape {
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// `out = softmax(q · kᵀ / √head_dim) · v`, where position `t` sees keys `0..=t` that `key_mask`
/// keeps.
///
/// `q`, `k`, `v` and `out` are `[batch, seq, heads · head_dim]`, `key_mask` is `[batch, seq]`
/// (`true` keeps a key), and `logsumexp: [batch, heads, seq]` is saved for
/// [`causal_attention_backward`]. A position that sees no key at all gets zeros, a logsumexp of
/// minus infinity, and no gradient.
pub fn causal_attention_forward(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    key_mask: Option<&[bool]>,
    out: &mut [f32],
    logsumexp: &mut [f32],
) {
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    let dims = [batch, seq, heads, head_dim];
    check_len("q", q, &dims);
    check_len("k", k, &dims);
    check_len("v", v, &dims);
    check_len("out", out, &dims);
    check_len("logsumexp", logsumexp, &[batch, heads, seq]);
    if let Some(mask) = key_mask {
        check_len("key_mask", mask, &[batch, seq]);
    }
    if out.is_empty() {
        logsumexp.fill(f32::NEG_INFINITY);
        return;
    }
    let width = heads * head_dim;
    let scale = shape.scale();
    out.par_chunks_mut(seq * width)
        .zip(logsumexp.par_chunks_mut(heads * seq))
        .enumerate()
        .for_each(|(b, (out, lse))| {
            let keep = |s: usize| key_mask.is_none_or(|mask| mask[b * seq + s]);
            let at = |t: usize, h: usize| -> usize { (b * seq + t) * width + h * head_dim };
            let mut scores = vec![0.0_f32; seq];
            for h in 0..heads {
                for t in 0..seq {
                    let qt = &q[at(t, h)..][..head_dim];
                    let mut max = f32::NEG_INFINITY;
                    for s in 0..=t {
                        let ks = &k[at(s, h)..][..head_dim];
                        scores[s] = if keep(s) {
                            dot(qt, ks) * scale
                        } else {
                            f32::NEG_INFINITY
                        };
                        max = max.max(scores[s]);
                    }
                    let o = &mut out[t * width + h * head_dim..][..head_dim];
                    o.fill(0.0);
                    if max == f32::NEG_INFINITY {
                        lse[h * seq + t] = max;
                        continue;
                    }
                    let mut sum = 0.0;
                    for s in 0..=t {
                        let p = (scores[s] - max).exp();
                        sum += p;
                        add_scaled(o, p, &v[at(s, h)..][..head_dim]);
                    }
                    for o in o.iter_mut() {
                        *o /= sum;
                    }
                    lse[h * seq + t] = max + sum.ln();
                }
            }
        });
}

/// Gradients of [`causal_attention_forward`]: `out` and `logsumexp` are what it gave, `d_out` is the
/// gradient of `out`, and `dq`, `dk`, `dv` are overwritten. Shapes as there.
#[allow(clippy::too_many_arguments)] // a kernel's operands, each with its own shape
pub fn causal_attention_backward(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    key_mask: Option<&[bool]>,
    out: &[f32],
    logsumexp: &[f32],
    d_out: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    let dims = [batch, seq, heads, head_dim];
    for (name, slice) in [("q", q), ("k", k), ("v", v), ("out", out), ("d_out", d_out)] {
        check_len(name, slice, &dims);
    }
    for (name, slice) in [("dq", &mut *dq), ("dk", &mut *dk), ("dv", &mut *dv)] {
        check_len(name, slice, &dims);
        slice.fill(0.0);
    }
    check_len("logsumexp", logsumexp, &[batch, heads, seq]);
    if let Some(mask) = key_mask {
        check_len("key_mask", mask, &[batch, seq]);
    }
    if q.is_empty() {
        return;
    }
    let width = heads * head_dim;
    let scale = shape.scale();
    let per_batch = seq * width;
    dq.par_chunks_mut(per_batch)
        .zip(
            dk.par_chunks_mut(per_batch)
                .zip(dv.par_chunks_mut(per_batch)),
        )
        .enumerate()
        .for_each(|(b, (dq, (dk, dv)))| {
            let base = b * per_batch;
            for h in 0..heads {
                for t in 0..seq {
                    let lse = logsumexp[(b * heads + h) * seq + t];
                    if lse == f32::NEG_INFINITY {
                        continue;
                    }
                    let ti = t * width + h * head_dim;
                    let qt = &q[base + ti..][..head_dim];
                    let dot_out = &d_out[base + ti..][..head_dim];
                    let delta = dot(dot_out, &out[base + ti..][..head_dim]);
                    for s in 0..=t {
                        if key_mask.is_some_and(|mask| !mask[b * seq + s]) {
                            continue;
                        }
                        let si = s * width + h * head_dim;
                        let ks = &k[base + si..][..head_dim];
                        let p = (dot(qt, ks) * scale - lse).exp();
                        let dp = dot(dot_out, &v[base + si..][..head_dim]);
                        let ds = p * (dp - delta) * scale;
                        add_scaled(&mut dq[ti..][..head_dim], ds, ks);
                        add_scaled(&mut dk[si..][..head_dim], ds, qt);
                        add_scaled(&mut dv[si..][..head_dim], p, dot_out);
                    }
                }
            }
        });
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(out: &mut [f32], factor: f32, x: &[f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o += factor * x;
    }
}
