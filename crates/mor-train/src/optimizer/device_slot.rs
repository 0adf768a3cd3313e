//! The optimizer's state of one parameter on a GPU. The formulas are those of `mor-kernels`, whose names they keep.

use burn::tensor::{Device, Tensor, TensorData};

use super::slot::{MUON_RMS, Slot, State};

/// Coefficients and number of the Newton-Schulz steps; see `mor_kernels::muon_orthogonalize`.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
const STEPS: usize = 5;

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

    /// A copy in memory.
    pub(super) fn to_host(&self) -> Slot {
        let mut slot = self.slot.clone();
        for (vector, tensor) in slot.state.vectors().into_iter().zip(&self.vectors) {
            let data = tensor.clone().into_data().convert::<f32>();
            *vector = data.try_into_vec().unwrap_or_default();
        }
        slot
    }

    /// The parameter `values` after a step along `gradient`, which is scaled first.
    pub(super) fn step(
        &mut self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
        scale: f64,
    ) -> Tensor<1> {
        let Self { slot, vectors } = self;
        let learning_rate = learning_rate * slot.rate;
        let kept = values * (1.0 - learning_rate * slot.weight_decay);
        let gradient = gradient * scale;
        match (&mut slot.state, vectors.as_mut_slice()) {
            (
                State::AdamW {
                    betas: [beta1, beta2],
                    epsilon,
                    steps,
                    ..
                },
                [first, second],
            ) => {
                *steps += 1;
                let bias = |beta: f64| 1.0 - beta.powf(*steps as f64);
                let square = gradient.clone() * gradient.clone();
                *first = first.clone() * *beta1 + gradient * (1.0 - *beta1);
                *second = second.clone() * *beta2 + square * (1.0 - *beta2);
                let root = second.clone().sqrt() * bias(*beta2).sqrt().recip() + *epsilon;
                kept - first.clone() * (learning_rate / bias(*beta1)) / root
            }
            (State::Muon { decay, .. }, [momentum]) => {
                *momentum = momentum.clone() * *decay + gradient.clone() * (1.0 - *decay);
                // Nesterov's look ahead.
                let ahead = momentum.clone() * *decay + gradient * (1.0 - *decay);
                let shape = [slot.shape[0], slot.shape[1]];
                let update = orthogonalize(ahead.reshape(shape)).flatten(0, 1);
                let longer = shape[0].max(shape[1]) as f64;
                kept - update * (learning_rate * MUON_RMS * longer.sqrt())
            }
            // Each state has the vectors it was made with.
            _ => kept,
        }
    }
}

/// Replaces the singular values of `g` by about one.
fn orthogonalize(g: Tensor<2>) -> Tensor<2> {
    let [rows, cols] = g.dims();
    let [a, b, c] = QUINTIC;
    let norm = (g.clone() * g.clone()).sum().sqrt() + 1e-7;
    let mut x = g / norm.reshape([1, 1]);
    for _ in 0..STEPS {
        // The Gram matrix over the shorter side.
        x = if rows <= cols {
            let gram = x.clone().matmul(x.clone().transpose());
            let square = gram.clone().matmul(gram.clone()) * c + gram * b;
            square.matmul(x.clone()) + x * a
        } else {
            let gram = x.clone().transpose().matmul(x.clone());
            let square = gram.clone().matmul(gram.clone()) * c + gram * b;
            x.clone().matmul(square) + x * a
        };
    }
    x
}
