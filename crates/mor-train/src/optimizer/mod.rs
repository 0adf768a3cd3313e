//! Optimizers over the parameters' values, with state that a checkpoint can hold.
//!
//! The arithmetic runs on plain `f32` vectors, one pass over memory per parameter: gradients leave
//! the tensor library once a step, parameters are updated in place.

mod slot;

use mor_config::{ModelConfig, Weights};
use mor_model::Model;
use rayon::prelude::*;

use crate::checkpoint::Tensors;
use crate::recipe::OptimizerSettings;
use crate::{Result, TrainError};
use slot::Slot;

/// Gradients in the order of [`ModelConfig::tensors`]; `None` where a parameter took no part.
pub type Gradients = Vec<Option<Vec<f32>>>;

/// An optimizer with the state of every parameter.
#[derive(Debug)]
pub struct Optimizer {
    names: Vec<String>,
    slots: Vec<Slot>,
}

impl Optimizer {
    /// A fresh optimizer for a model.
    pub fn new(config: &ModelConfig, settings: &OptimizerSettings) -> Self {
        let specs = config.tensors();
        Self {
            slots: specs.iter().map(|spec| Slot::new(spec, settings)).collect(),
            names: specs.into_iter().map(|spec| spec.name).collect(),
        }
    }

    /// One step: the gradients are scaled by `scale` (the place for clipping), the parameters
    /// move by at most about `learning_rate` each. A parameter without a gradient stays as it is.
    pub fn step(
        &mut self,
        model: Model,
        mut gradients: Gradients,
        learning_rate: f64,
        scale: f64,
    ) -> Model {
        self.slots
            .par_iter_mut()
            .zip(gradients.par_iter_mut())
            .filter_map(|(slot, gradient)| Some((slot, gradient.as_mut()?)))
            .for_each(|(slot, gradient)| slot.prepare(gradient, scale as f32));
        let mut used = Vec::with_capacity(gradients.len());
        let model = model.update(|parameter| {
            let slot = self.slots.get_mut(parameter.index);
            let gradient = gradients.get_mut(parameter.index).and_then(Option::take);
            if let (Some(slot), Some(gradient)) = (slot, gradient) {
                slot.apply(parameter.values, &gradient, learning_rate, scale);
                used.push(Some(gradient));
            }
        });
        mor_model::recycle_gradients(used);
        model
    }

    /// The state as named tensors, for a checkpoint.
    pub fn tensors(&self) -> Tensors<'_> {
        let named = self.names.iter().zip(&self.slots);
        named.flat_map(|(name, slot)| slot.tensors(name)).collect()
    }

    /// Takes the state back from a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] where a tensor is missing or of another size.
    pub fn restore(&mut self, weights: &Weights) -> Result<()> {
        for (name, slot) in self.names.iter().zip(&mut self.slots) {
            slot.restore(name, weights)?;
        }
        Ok(())
    }
}

/// The norm of all gradients taken as one vector.
pub fn global_norm(gradients: &Gradients) -> f64 {
    let squares: f64 = gradients
        .iter()
        .flatten()
        .map(|gradient| mor_kernels::sum_squares(gradient))
        .sum();
    squares.sqrt()
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

/// Adds `more` to `sum`, parameter by parameter.
pub fn accumulate(sum: &mut Gradients, more: Gradients) {
    for (sum, more) in sum.iter_mut().zip(more) {
        match (sum.as_mut(), more) {
            (Some(sum), Some(more)) => {
                sum.par_chunks_mut(1 << 14)
                    .zip(more.par_chunks(1 << 14))
                    .for_each(|(sum, more)| {
                        for (s, m) in sum.iter_mut().zip(more) {
                            *s += m;
                        }
                    });
            }
            (None, more) => *sum = more,
            (Some(_), None) => {}
        }
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
    fn clips_all_gradients_together() {
        let gradients = vec![Some(vec![3.0, 0.0]), None, Some(vec![0.0, 4.0])];
        let norm = global_norm(&gradients);
        assert_relative_eq!(norm, 5.0);
        assert_relative_eq!(clip_scale(norm, 1.0), 0.2);
        assert_relative_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_relative_eq!(clip_scale(norm, 0.0), 1.0);
    }

    #[test]
    fn adds_up_gradients() {
        let mut sum = vec![Some(vec![1.0]), None, Some(vec![2.0])];
        accumulate(&mut sum, vec![Some(vec![0.5]), Some(vec![3.0]), None]);
        assert_eq!(sum, [Some(vec![1.5]), Some(vec![3.0]), Some(vec![2.0])]);
    }
}
