//! Parameters and gradients as plain vectors under the names of the weights file, for loading,
//! saving and optimizers.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Gradients, Tensor, TensorData, Transaction};
#[cfg(doc)]
use mor_config::ModelConfig;

use crate::ops::backend::pool::reclaim;
use crate::{Model, ops};

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
        let values = self.values();
        let specs = self.config().tensors();
        debug_assert_eq!(specs.len(), values.len());
        specs
            .into_iter()
            .zip(values)
            .map(|(spec, values)| (spec.name, spec.shape, values))
            .collect()
    }

    /// The values of every parameter, in the order of [`ModelConfig::tensors`].
    pub fn values(&self) -> Vec<Vec<f32>> {
        let mut collector = Collector {
            tensors: Vec::new(),
        };
        self.visit(&mut collector);
        read_together(collector.tensors)
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
    /// copied on the CPU; [`recycle_gradients`] takes them back when they have been used. From a GPU all come at once.
    pub fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Vec<f32>>> {
        let tensors = self.take_gradient_tensors(gradients);
        let taught: Vec<bool> = tensors.iter().map(Option::is_some).collect();
        let mut values = read_together(tensors.into_iter().flatten().collect()).into_iter();
        let taught = taught.into_iter();
        taught
            .map(|taught| if taught { values.next() } else { None })
            .collect()
    }

    /// As [`Self::take_gradients`], each flat, where it lies, and without autodiff.
    pub fn take_gradient_tensors(&self, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
        let mut taker = GradientTaker {
            gradients,
            taken: Vec::new(),
        };
        self.visit(&mut taker);
        taker.taken
    }

    /// Replaces every parameter, in the order of [`ModelConfig::tensors`], by what `update` makes of its number and its
    /// values, flat and without autodiff; nothing leaves the device.
    #[must_use]
    pub fn update_tensors(self, update: impl FnMut(usize, Tensor<1>) -> Tensor<1>) -> Self {
        self.map(&mut TensorUpdater { update, index: 0 })
    }

    /// Lends every parameter to `update`, in the order of [`ModelConfig::tensors`], and puts the
    /// values back. On the CPU nothing is copied as long as no clone of the model and no graph
    /// that was recorded with it is alive.
    pub fn update(self, update: impl FnMut(Parameter)) -> Self {
        let on_cpu = self.devices().iter().all(ops::is_cpu);
        let mut updater = Updater {
            update,
            index: 0,
            values: (!on_cpu).then(|| self.values()),
        };
        self.map(&mut updater)
    }

    /// The model with its parameters, and so its arithmetic, in another precision; meant for running, not for
    /// training. The CPU has kernels of its own for f32 alone, a GPU for f32 and f16; in any other type operations are
    /// Burn's.
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
    tensors: Vec<Tensor<1>>,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.push(flat(param.val()));
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
    taken: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for GradientTaker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(self.gradients);
        self.taken.push(gradient.map(flat));
    }
}

struct Updater<F> {
    update: F,
    index: usize,
    /// What was read from a GPU, all at once.
    values: Option<Vec<Vec<f32>>>,
}

impl<F: FnMut(Parameter)> ModuleMapper for Updater<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let tracked = tensor.is_require_grad();
        let device = tensor.device();
        let shape = tensor.dims();
        let read = self.values.as_mut().and_then(|all| all.get_mut(self.index));
        let mut values = match read {
            Some(values) => std::mem::take(values),
            None => into_values(tensor),
        };
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

struct TensorUpdater<F> {
    update: F,
    index: usize,
}

impl<F: FnMut(usize, Tensor<1>) -> Tensor<1>> ModuleMapper for TensorUpdater<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let (tracked, autodiff) = (tensor.is_require_grad(), tensor.is_autodiff());
        let shape = tensor.dims();
        let updated = (self.update)(self.index, flat(tensor)).reshape(shape);
        self.index += 1;
        let updated = match autodiff {
            true => updated.autodiff().set_require_grad(tracked),
            false => updated,
        };
        Param::from_mapped_value(id, updated, mapper)
    }
}

/// A tensor as one row, without its history.
fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.without_autodiff().flatten(0, D - 1)
}

/// Values that are read from a GPU at once, 64 MiB: while they are read, there are two more copies of them.
const READ_TOGETHER: usize = 1 << 24;

/// The values of tensors without a gradient. Each read from a GPU waits for all that is queued, so what is small comes
/// together.
pub fn read_together(tensors: Vec<Tensor<1>>) -> Vec<Vec<f32>> {
    let mut values = Vec::with_capacity(tensors.len());
    let mut waiting = Vec::new();
    let mut elements = 0;
    for tensor in tensors {
        if ops::is_cpu(&tensor.device()) {
            values.push(into_values(tensor));
            continue;
        }
        let [len] = tensor.dims();
        if elements + len > READ_TOGETHER {
            values.extend(read(std::mem::take(&mut waiting)));
            elements = 0;
        }
        elements += len;
        waiting.push(tensor);
    }
    values.extend(read(waiting));
    values
}

/// The values of tensors that are all on one GPU.
fn read(tensors: Vec<Tensor<1>>) -> impl Iterator<Item = Vec<f32>> {
    let all = tensors.into_iter();
    let all = all.fold(Transaction::default(), Transaction::register);
    all.execute().into_iter().map(numbers)
}

/// The values of a tensor; without a copy where it is the only owner of its memory.
fn into_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    numbers(tensor.without_autodiff().into_data())
}

fn numbers(data: TensorData) -> Vec<f32> {
    // The conversion makes the element type f32, the only thing that could differ.
    data.convert::<f32>().try_into_vec().unwrap_or_default()
}
