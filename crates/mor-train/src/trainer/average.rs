//! Moving averages of the weights, where the weights are.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor};
use mor_config::ModelConfig;
use mor_model::ops::update::scaled_sum;
use mor_model::{Model, read_together};

use crate::Result;
use crate::checkpoint::{AVERAGE_PREFIX, Checkpoint, Tensors};
use crate::optimizer::read_into;

/// The averages, in the order of [`ModelConfig::tensors`].
#[derive(Debug)]
pub(super) struct Average {
    /// What an average keeps of itself in a step.
    decay: f64,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Host(Vec<Vec<f32>>),
    Gpu(Vec<Tensor<1>>),
}

impl Average {
    /// Averages that begin as these values; on a GPU if one is given.
    pub(super) fn new(decay: f64, values: Vec<Vec<f32>>, gpu: Option<&Device>) -> Self {
        let values = match gpu {
            None => Values::Host(values),
            Some(device) => {
                let values = values.iter();
                Values::Gpu(
                    values
                        .map(|values| Tensor::from_data(values.as_slice(), device))
                        .collect(),
                )
            }
        };
        Self { decay, values }
    }

    /// The averages in a checkpoint of a model.
    pub(super) fn restore(
        decay: f64,
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        gpu: Option<&Device>,
    ) -> Result<Self> {
        let mut all = Vec::new();
        for spec in config.tensors() {
            let mut values = vec![0.0; spec.shape.iter().product()];
            let name = format!("{AVERAGE_PREFIX}{}", spec.name);
            read_into(&checkpoint.optimizer, &name, &mut values)?;
            all.push(values);
        }
        Ok(Self::new(decay, all, gpu))
    }

    /// Lets them follow the weights after a step, of which `steps` came before.
    pub(super) fn follow(&mut self, model: Model, steps: u64) -> Model {
        // Early on the average would mostly remember the random start: let it follow faster.
        let steps = steps as f64 + 1.0;
        let decay = self.decay.min(steps / (steps + 9.0));
        match &mut self.values {
            Values::Host(averages) => model.update(|parameter| {
                if let Some(average) = averages.get_mut(parameter.index) {
                    for (a, p) in average.iter_mut().zip(&*parameter.values) {
                        *a += (1.0 - decay as f32) * (p - *a);
                    }
                }
            }),
            Values::Gpu(averages) => {
                let mut before = std::mem::take(averages).into_iter();
                model.update_tensors(|_, values| {
                    if let Some(average) = before.next() {
                        averages.push(scaled_sum(values.clone(), 1.0 - decay, average, decay));
                    }
                    values
                })
            }
        }
    }

    /// Exchanges the weights with them.
    pub(super) fn exchange(&mut self, model: Model) -> Model {
        match &mut self.values {
            Values::Host(averages) => model.update(|parameter| {
                if let Some(average) = averages.get_mut(parameter.index) {
                    parameter.values.swap_with_slice(average);
                }
            }),
            Values::Gpu(averages) => {
                model.update_tensors(|index, values| match averages.get_mut(index) {
                    Some(average) => std::mem::replace(average, values),
                    None => values,
                })
            }
        }
    }

    /// Them as named tensors, for a checkpoint.
    pub(super) fn tensors(&self, config: &ModelConfig) -> Tensors<'_> {
        let all: Vec<Cow<'_, [f32]>> = match &self.values {
            Values::Host(averages) => averages.iter().map(|a| Cow::Borrowed(&**a)).collect(),
            Values::Gpu(averages) => {
                let averages = read_together(averages.clone()).into_iter();
                averages.map(Cow::Owned).collect()
            }
        };
        let specs = config.tensors().into_iter().zip(all);
        let named = specs
            .map(|(spec, values)| (format!("{AVERAGE_PREFIX}{}", spec.name), spec.shape, values));
        named.collect()
    }
}
