//! Parameters and gradients as plain vectors under the names of the weights file, for loading,
//! saving and optimizers.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Gradients, Tensor, TensorData};
#[cfg(doc)]
use mor_config::ModelConfig;

use crate::Model;
use crate::ops::fused::pool::reclaim;

/// Gives the memory of gradients that are no longer needed to the next backward pass, which would
/// otherwise ask the system for as much fresh memory, at the price of clearing it.
pub fn recycle_gradients(gradients: Vec<Option<Vec<f32>>>) {
    for gradient in gradients.into_iter().flatten() {
        reclaim(gradient);
    }
}

/// One parameter of a model, lent to an optimizer.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Position in [`ModelConfig::tensors`].
    pub index: usize,
    /// Shape, as in the weights file.
    pub shape: &'a [usize],
    /// Values in row-major order; updated in place.
    pub values: &'a mut [f32],
}

impl Model {
    /// Every parameter as (name, shape, values), in the order of [`ModelConfig::tensors`]: what
    /// [`mor_config::save_tensors`] writes.
    pub fn to_tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut collector = Collector { values: Vec::new() };
        self.visit(&mut collector);
        let specs = self.config().tensors();
        debug_assert_eq!(specs.len(), collector.values.len());
        specs
            .into_iter()
            .zip(collector.values)
            .map(|(spec, values)| (spec.name, spec.shape, values))
            .collect()
    }

    /// The values of one parameter, by its place in [`ModelConfig::tensors`]; none beyond the last.
    pub fn tensor_values(&self, index: usize) -> Vec<f32> {
        let mut finder = Finder {
            left: index,
            values: None,
        };
        self.visit(&mut finder);
        finder.values.unwrap_or_default()
    }

    /// Takes the gradients out of a backward pass, in the order of [`ModelConfig::tensors`], each
    /// in the shape of its parameter. `None` where a parameter had no part in the loss. Nothing is
    /// copied on the CPU; [`recycle_gradients`] takes them back when they have been used.
    pub fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Vec<f32>>> {
        let mut taker = GradientTaker {
            gradients,
            taken: Vec::new(),
        };
        self.visit(&mut taker);
        taker.taken
    }

    /// Lends every parameter to `update`, in the order of [`ModelConfig::tensors`], and puts the
    /// values back. On the CPU nothing is copied as long as no clone of the model and no graph
    /// that was recorded with it is alive.
    pub fn update(self, update: impl FnMut(Parameter)) -> Self {
        let mut updater = Updater { update, index: 0 };
        self.map(&mut updater)
    }

    /// The model with its parameters, and so its arithmetic, in another precision; meant for running, not for
    /// training. Off the CPU or in another type than f32, operations are Burn's own.
    #[must_use]
    pub fn cast(self, dtype: FloatDType) -> Self {
        self.map(&mut Caster { dtype })
    }
}

struct Caster {
    dtype: FloatDType,
}

impl ModuleMapper for Caster {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.cast(self.dtype), mapper)
    }
}

struct Collector {
    values: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.push(into_values(param.val()));
    }
}

struct Finder {
    /// Parameters to pass by.
    left: usize,
    values: Option<Vec<f32>>,
}

impl ModuleVisitor for Finder {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.values.is_none() {
            match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None => self.values = Some(into_values(param.val())),
            }
        }
    }
}

struct GradientTaker<'a> {
    gradients: &'a mut Gradients,
    taken: Vec<Option<Vec<f32>>>,
}

impl ModuleVisitor for GradientTaker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(self.gradients);
        self.taken.push(gradient.map(into_values));
    }
}

struct Updater<F> {
    update: F,
    index: usize,
}

impl<F: FnMut(Parameter)> ModuleMapper for Updater<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let tracked = tensor.is_require_grad();
        let device = tensor.device();
        let shape = tensor.dims();
        let mut values = into_values(tensor);
        (self.update)(Parameter {
            index: self.index,
            shape: &shape,
            values: &mut values,
        });
        self.index += 1;
        let tensor = Tensor::from_data(TensorData::new(values, shape), &device);
        Param::from_mapped_value(id, tensor.set_require_grad(tracked), mapper)
    }
}

/// The values of a tensor; without a copy where it is the only owner of its memory.
fn into_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data().convert::<f32>();
    // The conversion above makes the element type f32, the only thing that could differ.
    data.try_into_vec().unwrap_or_default()
}
