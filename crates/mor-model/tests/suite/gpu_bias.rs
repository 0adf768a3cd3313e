//! Linear layers with a bias on a GPU, against the CPU and finite differences: values and the gradient of every operand.
use crate::common::gpu::gpu;
use crate::common::gradients::{check_operation, check_operation_in_half};
use mor_model::gpu::Variant;

#[test]
fn values_and_gradients() {
    // The shader is the same in every variant.
    let (device, _guard) = gpu(Variant::Portable);
    check_operation("linear", &device, Variant::Portable);
}

#[test]
fn half_precision_is_close() {
    check_operation_in_half("linear");
}
