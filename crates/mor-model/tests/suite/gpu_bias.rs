//! Linear layers with a bias on a GPU, against the CPU and finite differences: values and the gradient of every operand.
use crate::common::gpu::{check_half, gpu};
use crate::common::gradients::{check, noise};
use burn::tensor::Tensor;
use mor_model::gpu::Variant;
use mor_model::{MatmulPrecision, ops};

/// Operands: `[batch, seq, in]`, `[1, out, in]` and `[1, 1, out]`.
fn linear(x: &[Tensor<3>]) -> Tensor<3> {
    let weight = x[1].clone().squeeze_dim(0);
    ops::linear(
        MatmulPrecision::F32,
        x[0].clone(),
        weight,
        Some(x[2].clone().flatten(0, 2)),
    )
}

fn operands([batch, seq, inputs, outputs]: [usize; 4], scale: f32) -> [(Vec<f32>, [usize; 3]); 3] {
    let weight = noise(outputs * inputs, 2).into_iter();
    [
        (noise(batch * seq * inputs, 1), [batch, seq, inputs]),
        (weight.map(|w| w * scale).collect(), [1, outputs, inputs]),
        (noise(outputs, 3), [1, 1, outputs]),
    ]
}

#[test]
fn values_and_gradients() {
    // The shader is the same in every variant.
    let (device, _guard) = gpu(Variant::Portable);
    // Rows of a chunk, one more than that, and many chunks.
    for shape in [
        [1, 1, 1, 1],
        [2, 3, 4, 5],
        [1, 16, 3, 65],
        [1, 17, 3, 64],
        [3, 100, 5, 33],
    ] {
        let operands = operands(shape, 1.0);
        check(&format!("bias of {shape:?}"), &device, &operands, &linear);
        // The gradient comes back as a view.
        check(
            &format!("bias of {shape:?}, turned"),
            &device,
            &operands,
            &|x| linear(x).swap_dims(1, 2),
        );
    }
}

#[test]
fn half_precision_is_close() {
    check_half("bias", &operands([3, 100, 8, 33], 0.3), 5e-3, |x, dtype| {
        linear(&[x[0].clone().cast(dtype), x[1].clone(), x[2].clone()])
    });
}
