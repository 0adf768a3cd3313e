//! Attention and routing on a GPU, in every variant of their kernels, against the CPU and finite differences: values
//! and the gradient of every operand.
use crate::common::gpu::gpu;
use crate::common::gradients::{check_operation, check_operation_in_half};
use crate::common::values;
use burn::tensor::{Device, Int, Tensor};
use mor_model::gpu::Variant;
use mor_model::ops;

fn attention(variant: Variant) {
    let (device, _guard) = gpu(variant);
    check_operation("attention", &device, variant);
}

#[test]
fn attention_without_barriers() {
    attention(Variant::Portable);
}

/// Its kernels have no form for subgroups: one after the other, the driver compiles each once.
#[test]
fn attention_with_barriers() {
    attention(Variant::Workgroup);
    attention(Variant::Subgroup);
}

#[test]
fn routing() {
    for variant in Variant::ALL {
        let (device, _guard) = gpu(variant);
        check_operation("routing", &device, variant);
    }
}

#[test]
fn selection_lists_the_deeper_rows_in_order() {
    let (device, _guard) = gpu(Variant::Workgroup);
    let ints = |x: Tensor<1, Int>| -> Vec<i64> {
        let data = x.into_data().convert::<i64>();
        data.try_into_vec().expect("integers")
    };
    for device in [device, Device::flex()] {
        let depths = Tensor::<1, Int>::from_data([2_i64, 0, 3, 1, 2], &device);
        let (rows, count) = ops::select_rows(depths, 1);
        assert_eq!(ints(count), [3]);
        assert_eq!(ints(rows)[..3], [0, 2, 4]);
    }
}

#[test]
fn scattering_leaves_other_holders_of_the_tensor_alone() {
    let (device, _guard) = gpu(Variant::Portable);
    let x = Tensor::<2>::ones([3, 2], &device);
    let zeros = Tensor::<2>::zeros([1, 2], &device);
    let y = ops::scatter_rows(
        x.clone(),
        zeros,
        Tensor::<1, Int>::from_data([1_i64], &device),
    );
    assert_eq!(values(y), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(values(x), [1.0; 6]);
}

#[test]
fn half_precision_is_close() {
    check_operation_in_half("attention");
}
