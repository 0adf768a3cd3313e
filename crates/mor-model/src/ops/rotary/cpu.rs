//! Rotary positions over the kernels of `mor-kernels`.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use mor_kernels::{rotary_backward, rotary_forward};

use super::autodiff::{RotaryKernels, Rotation};
use super::positions::Positions;
use crate::ops::backend::cpu::attention_shape;

impl RotaryKernels for Flex {
    fn rotate(x: FlexTensor, rotation: &Rotation) -> FlexTensor {
        // A view into a larger buffer is copied, since the kernel turns the whole buffer.
        let whole =
            x.layout().contiguous_offsets() == Some((0, x.bytes().len() / size_of::<f32>()));
        let mut x = if whole { x } else { x.to_contiguous() };
        let shape = attention_shape(&x, rotation.heads);
        let kernel = match rotation.inverse {
            false => rotary_forward,
            true => rotary_backward,
        };
        let positions = rotation.positions.as_deref().map(Positions::values);
        kernel(shape, rotation.base, positions, x.storage_mut());
        x
    }
}
