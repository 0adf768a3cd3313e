//! The operations on Burn's CPU backend, over the kernels of `mor-kernels`: forward and backward
//! each in one pass, on the tensors' own memory, with only what the backward needs kept.
//!
//! Those that GPUs have too are in folders of their own beside this one, the others in [`FusedOps`], a backend extension:
//! Burn dispatches to the implementation for `Flex`, or, when a tensor is tracked, to the one for `Autodiff<Flex>`,
//! which records the hand-written backward.

mod cross_entropy;
mod dropout;
mod embedding;
mod linear;
mod shared_losses;

pub(super) use shared_losses::SharedLosses;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use mor_kernels::MatmulPrecision;

use super::backend::cpu::Tracked;
use super::backend::operands::MaybeFloat;
use super::backend::record::record;

/// The operations of [`super`] that have CPU kernels; arguments and shapes as there.
#[backend_extension(Autodiff, Flex)]
#[allow(
    missing_docs,
    reason = "each is documented where the crate's users see it"
)]
pub(super) trait FusedOps: Backend {
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FloatTensor<Self>;

    fn fused_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FloatTensor<Self>;

    fn fused_dropout(x: FloatTensor<Self>, probability: f32, seed: u64) -> FloatTensor<Self>;

    fn fused_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;

    fn fused_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        ignore: i64,
        losses: SharedLosses,
        matmul: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

impl FusedOps for Flex {
    fn fused_linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FlexTensor {
        linear::forward(matmul, x, weight, bias.given()).0
    }

    fn fused_linear_gelu(
        x: FlexTensor,
        weight: FlexTensor,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> FlexTensor {
        linear::forward_gelu(matmul, x, weight, bias.given()).0
    }

    fn fused_dropout(x: FlexTensor, probability: f32, seed: u64) -> FlexTensor {
        dropout::forward(x, probability, seed)
    }

    fn fused_embedding(table: FlexTensor, ids: FlexTensor) -> FlexTensor {
        embedding::forward(table, ids).0
    }

    fn fused_cross_entropy(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        ignore: i64,
        losses: SharedLosses,
        matmul: MatmulPrecision,
    ) -> FlexTensor {
        cross_entropy::mean(matmul, hidden, weight, targets, ignore, &losses)
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn fused_linear(
        x: Tracked,
        weight: Tracked,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> Tracked {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        match bias.given().map(Tracked::into_parts) {
            Some((bias, bias_node)) => record::<Flex, C, _, _, 3>(
                linear::LinearBackward(matmul),
                [x_node, weight_node, bias_node],
                || linear::forward(matmul, x, weight, Some(bias)),
            ),
            None => record::<Flex, C, _, _, 2>(
                linear::LinearBackward(matmul),
                [x_node, weight_node],
                || linear::forward(matmul, x, weight, None),
            ),
        }
    }

    fn fused_linear_gelu(
        x: Tracked,
        weight: Tracked,
        bias: MaybeFloat<Self>,
        matmul: MatmulPrecision,
    ) -> Tracked {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        match bias.given().map(Tracked::into_parts) {
            Some((bias, bias_node)) => record::<Flex, C, _, _, 3>(
                linear::LinearGeluBackward(matmul),
                [x_node, weight_node, bias_node],
                || linear::forward_gelu(matmul, x, weight, Some(bias)),
            ),
            None => record::<Flex, C, _, _, 2>(
                linear::LinearGeluBackward(matmul),
                [x_node, weight_node],
                || linear::forward_gelu(matmul, x, weight, None),
            ),
        }
    }

    fn fused_dropout(x: Tracked, probability: f32, seed: u64) -> Tracked {
        let (x, node) = x.into_parts();
        record::<Flex, C, _, _, 1>(dropout::DropoutBackward, [node], || {
            (dropout::forward(x, probability, seed), (probability, seed))
        })
    }

    fn fused_embedding(table: Tracked, ids: FlexTensor) -> Tracked {
        let (table, node) = table.into_parts();
        record::<Flex, C, _, _, 1>(embedding::EmbeddingBackward, [node], || {
            embedding::forward(table, ids)
        })
    }

    fn fused_cross_entropy(
        hidden: Tracked,
        weight: Tracked,
        targets: FlexTensor,
        ignore: i64,
        losses: SharedLosses,
        matmul: MatmulPrecision,
    ) -> Tracked {
        let (hidden, hidden_node) = hidden.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let nodes = [hidden_node, weight_node];
        let prepared = cross_entropy::CrossEntropyBackward
            .prepare::<C>(nodes)
            .compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => {
                let (loss, gradients) = cross_entropy::mean_and_gradients(
                    matmul, hidden, weight, targets, ignore, &losses,
                );
                prepared.finish(gradients, loss)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(cross_entropy::mean(
                matmul, hidden, weight, targets, ignore, &losses,
            )),
        }
    }
}
