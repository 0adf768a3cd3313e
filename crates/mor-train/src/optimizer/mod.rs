//! Optimizers over the parameters' values, with state that a checkpoint can hold.
//!
//! On the CPU the arithmetic runs on plain `f32` vectors, one pass over memory per parameter: gradients leave
//! the tensor library once a step, parameters are updated in place. On a GPU nothing leaves it but the gradients' norm.

mod device_slot;
mod gradients;
mod orthogonalize;
mod slot;

use std::borrow::Cow;

use burn::tensor::Device;
use mor_config::{ModelConfig, Weights};
use mor_kernels::MatmulPrecision;
use mor_model::{Model, read_together};
use rayon::prelude::*;

use crate::checkpoint::Tensors;
use crate::recipe::OptimizerSettings;
use crate::{Result, TrainError};
use device_slot::DeviceSlot;
pub use gradients::Gradients;
use orthogonalize::orthogonalize_all;
use slot::Slot;

/// An optimizer with the state of every parameter.
#[derive(Debug)]
pub struct Optimizer {
    names: Vec<String>,
    slots: Slots,
}

/// Where the state is.
#[derive(Debug)]
enum Slots {
    Host(Vec<Slot>),
    Device(Vec<DeviceSlot>),
}

impl Optimizer {
    /// A fresh optimizer for a model.
    pub fn new(config: &ModelConfig, settings: &OptimizerSettings) -> Self {
        let specs = config.tensors();
        Self {
            slots: Slots::Host(specs.iter().map(|spec| Slot::new(spec, settings)).collect()),
            names: specs.into_iter().map(|spec| spec.name).collect(),
        }
    }

    /// Moves the state to a device, which takes [`Gradients::Device`] from then on.
    #[must_use]
    pub fn on_device(self, device: &Device) -> Self {
        let slots = match self.slots {
            Slots::Host(slots) => {
                let slots = slots.into_iter();
                Slots::Device(slots.map(|slot| DeviceSlot::new(slot, device)).collect())
            }
            there => there,
        };
        Self { slots, ..self }
    }

    /// Whether the state is on a device.
    pub fn is_on_device(&self) -> bool {
        matches!(self.slots, Slots::Device(_))
    }

    /// One step: the gradients are scaled by `scale` (the place for clipping), the parameters move by at most about
    /// `learning_rate` each. A parameter without a gradient stays as it is. Gradients that are not where the
    /// optimizer is change nothing. `matmul` is the precision of products on the CPU.
    pub fn step(
        &mut self,
        model: Model,
        gradients: Gradients,
        learning_rate: f64,
        scale: f64,
        matmul: MatmulPrecision,
    ) -> Model {
        match (&mut self.slots, gradients) {
            (Slots::Host(slots), Gradients::Host(gradients)) => {
                step_on_host(slots, model, gradients, [learning_rate, scale], matmul)
            }
            (Slots::Device(slots), Gradients::Device(mut gradients)) => {
                for (slot, gradient) in slots.iter_mut().zip(&mut gradients) {
                    *gradient = gradient.take().map(|taken| slot.prepare(taken, scale));
                }
                let matrices = slots.iter().zip(0..gradients.len());
                let matrices = matrices.filter_map(|(slot, at)| Some((slot.matrix()?, at)));
                orthogonalize_all(matrices, &mut gradients);
                model.update_tensors(|index, values| {
                    let gradient = gradients.get_mut(index).and_then(Option::take);
                    match (slots.get_mut(index), gradient) {
                        (Some(slot), Some(gradient)) => {
                            slot.apply(values, gradient, learning_rate, scale)
                        }
                        _ => values,
                    }
                })
            }
            _ => model,
        }
    }

    /// Numbers in the moments of all parameters.
    pub fn elements(&self) -> usize {
        match &self.slots {
            Slots::Host(slots) => slots.iter().map(Slot::elements).sum(),
            Slots::Device(slots) => {
                let vectors = slots.iter().flat_map(DeviceSlot::vectors);
                vectors.map(|vector| vector.dims()[0]).sum()
            }
        }
    }

    /// The state as named tensors, for a checkpoint.
    pub fn tensors(&self) -> Tensors<'_> {
        match &self.slots {
            Slots::Host(slots) => {
                let named = self.names.iter().zip(slots);
                named.flat_map(|(name, slot)| slot.tensors(name)).collect()
            }
            Slots::Device(slots) => {
                let vectors = slots.iter().flat_map(DeviceSlot::vectors);
                let mut values = read_together(vectors.cloned().collect()).into_iter();
                let named = self.names.iter().zip(slots);
                let copies = named.map(|(name, slot)| (name, slot.to_host(&mut values)));
                let owned = copies.flat_map(|(name, slot)| {
                    let tensors = slot.tensors(name).into_iter();
                    let owned = tensors.map(|(name, shape, values)| {
                        (name, shape, Cow::Owned(values.into_owned()))
                    });
                    owned.collect::<Tensors<'static>>()
                });
                owned.collect()
            }
        }
    }

    /// Takes the state back from a checkpoint, before it moves to a device.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] where a tensor is missing or of another size.
    pub fn restore(&mut self, weights: &Weights) -> Result<()> {
        if let Slots::Host(slots) = &mut self.slots {
            for (name, slot) in self.names.iter().zip(slots) {
                slot.restore(name, weights)?;
            }
        }
        Ok(())
    }
}

fn step_on_host(
    slots: &mut [Slot],
    model: Model,
    mut gradients: Vec<Option<Vec<f32>>>,
    [learning_rate, scale]: [f64; 2],
    matmul: MatmulPrecision,
) -> Model {
    slots
        .par_iter_mut()
        .zip(gradients.par_iter_mut())
        .filter_map(|(slot, gradient)| Some((slot, gradient.as_mut()?)))
        .for_each(|(slot, gradient)| slot.prepare(gradient, scale as f32, matmul));
    let mut used = Vec::with_capacity(gradients.len());
    let model = model.update(|parameter| {
        let slot = slots.get_mut(parameter.index);
        let gradient = gradients.get_mut(parameter.index).and_then(Option::take);
        if let (Some(slot), Some(gradient)) = (slot, gradient) {
            slot.apply(parameter.values, &gradient, learning_rate, scale);
            used.push(Some(gradient));
        }
    });
    mor_model::recycle_gradients(used);
    model
}

/// What gradients of the given global norm are multiplied by so that it stays within `clip_norm`;
/// 0 switches clipping off.
pub fn clip_scale(norm: f64, clip_norm: f64) -> f64 {
    if clip_norm > 0.0 && norm > clip_norm {
        clip_norm / norm
    } else {
        1.0
    }
}

/// Reads `into.len()` values of a checkpoint's tensor.
pub(crate) fn read_into(weights: &Weights, name: &str, into: &mut [f32]) -> Result<()> {
    let values = weights.to_f32(name)?;
    if values.len() != into.len() {
        return Err(TrainError::Checkpoint {
            path: weights.path().to_owned(),
            problem: format!(
                "tensor `{name}` has {} values; this model needs {}",
                values.len(),
                into.len()
            ),
        });
    }
    into.copy_from_slice(&values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn clips_to_the_norm_asked_for() {
        assert_relative_eq!(clip_scale(5.0, 1.0), 0.2);
        assert_relative_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_relative_eq!(clip_scale(5.0, 0.0), 1.0);
    }
}
