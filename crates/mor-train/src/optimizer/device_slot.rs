//! The optimizer's state of one parameter on a GPU. The formulas are those of `mor-kernels`, whose names they keep.

use burn::tensor::{Device, Tensor, TensorData};
use mor_model::ops::update::{adamw, momentum, scaled_sum};

use super::slot::{Slot, State, Step};

/// One parameter's state.
#[derive(Debug)]
pub(super) struct DeviceSlot {
    /// Everything but the long vectors, which are empty.
    slot: Slot,
    /// Those, in the order of [`State::vectors`].
    vectors: Vec<Tensor<1>>,
}

impl DeviceSlot {
    /// Moves a state to a device.
    pub(super) fn new(mut slot: Slot, device: &Device) -> Self {
        let vectors = slot.state.vectors().into_iter().map(|vector| {
            let values = std::mem::take(vector);
            let len = values.len();
            Tensor::from_data(TensorData::new(values, [len]), device)
        });
        Self {
            vectors: vectors.collect(),
            slot,
        }
    }

    /// The long vectors.
    pub(super) fn vectors(&self) -> &[Tensor<1>] {
        &self.vectors
    }

    /// A copy in memory, of which `values` has the long vectors.
    pub(super) fn to_host(&self, values: &mut impl Iterator<Item = Vec<f32>>) -> Slot {
        let mut slot = self.slot.clone();
        for (vector, values) in slot.state.vectors().into_iter().zip(values) {
            *vector = values;
        }
        slot
    }

    /// The shape of the matrix, where its update is to be orthogonalized.
    pub(super) fn matrix(&self) -> Option<[usize; 2]> {
        match self.slot.state {
            State::Muon { .. } => Some([self.slot.shape[0], self.slot.shape[1]]),
            State::AdamW { .. } => None,
        }
    }

    /// The part of a step before the parameter moves: what Muon orthogonalizes, made of the gradient, which is scaled
    /// first; else the gradient as it is.
    pub(super) fn prepare(&mut self, gradient: Tensor<1>, scale: f64) -> Tensor<1> {
        let State::Muon { decay, .. } = self.slot.state else {
            return gradient;
        };
        let Some(before) = self.vectors.pop() else {
            return gradient;
        };
        let (ahead, after) = momentum(gradient, before, decay, scale);
        self.vectors.push(after);
        ahead
    }

    /// The parameter `values` after a step along its prepared gradient.
    pub(super) fn apply(
        &mut self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
        scale: f64,
    ) -> Tensor<1> {
        match self.slot.next_step(learning_rate, scale) {
            Step::AdamW(settings) => {
                let (Some(second), Some(first)) = (self.vectors.pop(), self.vectors.pop()) else {
                    return values;
                };
                let (values, moments) = adamw(&settings, values, gradient, [first, second]);
                self.vectors.extend(moments);
                values
            }
            Step::Muon { size, keep } => scaled_sum(gradient, -size, values, keep),
        }
    }
}
