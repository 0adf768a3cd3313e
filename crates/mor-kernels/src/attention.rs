//! Causal multi-head attention over `[batch, seq, heads · head_dim]`, without transposes.
#![allow(unsafe_code)] // hands checked slices to the vector code as pointers

use crate::attention_kernel::{BackwardJob, ForwardJob, Layout, MAX_HEAD_DIM, backward, forward};
use crate::check::check_len;
use crate::isa::current_isa;
use crate::profile::{Kernel, timer};
use crate::scratch::{Slot, with_scratch};
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
    /// Width of one head; attention takes up to 128.
    pub head_dim: usize,
}

impl AttentionShape {
    /// What scores are multiplied by: one over the root of the head's width.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    #[track_caller]
    fn check_head_dim(&self) {
        assert!(
            self.head_dim <= MAX_HEAD_DIM,
            "heads are {} wide; attention goes up to {MAX_HEAD_DIM}",
            self.head_dim
        );
    }
}

/// `out = softmax(q · kᵀ / √head_dim) · v`, where position `t` sees keys `0..=t` that `key_mask`
/// keeps.
///
/// `q`, `k`, `v` and `out` are `[batch, seq, heads · head_dim]`, `key_mask` is `[batch, seq]`
/// (`true` keeps a key), and `logsumexp: [batch, heads, seq]` is saved for
/// [`causal_attention_backward`]. A position that sees no key at all gets zeros, a logsumexp of
/// minus infinity, and no gradient.
///
/// ```
/// use mor_kernels::{AttentionShape, causal_attention_forward};
///
/// let shape = AttentionShape { batch: 1, seq: 2, heads: 1, head_dim: 2 };
/// let (q, k) = ([0.0; 4], [0.0; 4]);
/// let v = [2.0, 4.0, 6.0, 8.0];
/// let (mut out, mut logsumexp) = ([0.0; 4], [0.0; 2]);
/// causal_attention_forward(shape, &q, &k, &v, None, &mut out, &mut logsumexp);
/// // The first position sees itself, the second the mean of both.
/// let close = out.iter().zip([2.0, 4.0, 4.0, 6.0]).all(|(a, b)| (a - b).abs() < 1e-5);
/// assert!(close, "{out:?}");
/// ```
pub fn causal_attention_forward(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    key_mask: Option<&[bool]>,
    out: &mut [f32],
    logsumexp: &mut [f32],
) {
    let _timer = timer(Kernel::Attention);
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    shape.check_head_dim();
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
    let job = ForwardJob {
        shape,
        q: q.as_ptr(),
        k: k.as_ptr(),
        v: v.as_ptr(),
        key_mask,
        out: out.as_mut_ptr(),
        logsumexp: logsumexp.as_mut_ptr(),
    };
    let isa = current_isa();
    (0..batch * heads).into_par_iter().for_each(|index| {
        with_scratch(
            Slot::Attention,
            Layout::of(shape).forward_len(),
            |scratch| {
                // SAFETY: `isa` is available, all lengths were checked, and each task writes the rows
                // of its own batch entry and head only.
                unsafe { forward(isa, &job, index, scratch.as_mut_ptr()) }
            },
        );
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
    let _timer = timer(Kernel::AttentionBackward);
    let AttentionShape {
        batch,
        seq,
        heads,
        head_dim,
    } = shape;
    shape.check_head_dim();
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
    let job = BackwardJob {
        shape,
        q: q.as_ptr(),
        k: k.as_ptr(),
        v: v.as_ptr(),
        key_mask,
        out: out.as_ptr(),
        logsumexp: logsumexp.as_ptr(),
        d_out: d_out.as_ptr(),
        dq: dq.as_mut_ptr(),
        dk: dk.as_mut_ptr(),
        dv: dv.as_mut_ptr(),
    };
    let isa = current_isa();
    (0..batch * heads).into_par_iter().for_each(|index| {
        with_scratch(
            Slot::Attention,
            Layout::of(shape).backward_len(),
            |scratch| {
                // SAFETY: as in the forward direction.
                unsafe { backward(isa, &job, index, scratch.as_mut_ptr()) }
            },
        );
    });
}
