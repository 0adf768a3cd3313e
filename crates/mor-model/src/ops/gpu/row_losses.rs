//! The cross-entropy of rows of logits, recorded for its backward pass.

use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::wgpu::{CubeBackend, CubeTensor, into_contiguous};
use burn::tensor::DType;
use mor_shaders::RowLosses;

use crate::ops::backend::gpu::Tracked;
use crate::ops::backend::gpu::{empty, is_half, words, writable};
use crate::ops::backend::launch::{Op, launch, variant};
use crate::ops::backend::record;

/// What the backward needs.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    /// `[rows, vocab]`.
    logits: CubeTensor,
    /// `[rows]`.
    targets: CubeTensor,
    ignore: i64,
    /// Logarithms of the rows' summed exponentials, `[rows]`.
    logsumexp: CubeTensor,
}

/// The shader for `logits: [rows, vocab]`, and its number of rows.
fn shader(logits: &CubeTensor) -> (RowLosses, usize) {
    let [rows, vocab] = logits.shape().dims::<2>();
    let op = RowLosses {
        vocab: vocab as u32,
        half: is_half(logits),
    };
    (op, rows)
}

fn params(rows: usize, ignore: i64) -> [u32; 2] {
    // Targets are in 32 bits too.
    [rows as u32, ignore as i32 as u32]
}

/// The losses, `[rows]`, of contiguous `logits: [rows, vocab]` against `targets: [rows]`.
pub(super) fn forward(logits: CubeTensor, targets: CubeTensor, ignore: i64) -> (CubeTensor, Saved) {
    let targets = words(targets);
    let (op, rows) = shader(&logits);
    let losses = empty(&logits, [rows], DType::F32);
    let logsumexp = empty(&logits, [rows], DType::F32);
    let buffers = vec![
        logits.handle.clone(),
        targets.handle.clone(),
        losses.handle.clone(),
        logsumexp.handle.clone(),
    ];
    let grid = op.workgroups(variant(), rows as u32);
    let params = params(rows, ignore);
    launch(&logits.client, Op::RowLosses(op), grid, buffers, &params);
    let saved = Saved {
        logits,
        targets,
        ignore,
        logsumexp,
    };
    (losses, saved)
}

/// The gradient of the logits from that of the losses, in their memory where nothing else holds that.
fn backward(saved: Saved, d_losses: CubeTensor) -> CubeTensor {
    let Saved {
        logits,
        targets,
        ignore,
        logsumexp,
    } = saved;
    let d = writable(logits);
    let (op, rows) = shader(&d);
    let buffers = vec![
        targets.handle,
        logsumexp.handle,
        d_losses.handle,
        d.handle.clone(),
    ];
    let grid = op.backward_workgroups(rows as u32);
    let params = params(rows, ignore);
    launch(&d.client, Op::RowLossesBackward(op), grid, buffers, &params);
    d
}

pub(super) fn record<C: CheckpointStrategy>(
    logits: Tracked,
    targets: CubeTensor,
    ignore: i64,
) -> Tracked {
    let (logits, node) = logits.into_parts();
    record::record::<CubeBackend, C, _, _, 1>(RowLossesBackward, [node], || {
        forward(into_contiguous(logits), targets, ignore)
    })
}

/// Parent: the logits.
#[derive(Debug)]
struct RowLossesBackward;

impl Backward<CubeBackend, 1> for RowLossesBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_losses = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        // Taken out, so that nothing else holds the logits.
        let Ops {
            parents,
            node,
            state,
        } = ops;
        let ops = Ops {
            parents,
            node,
            state: (),
        };
        record::register::<CubeBackend, _, 1>(&ops, grads, 0, || backward(state, d_losses));
    }
}
