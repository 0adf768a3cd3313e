//! Parameters and gradients as plain vectors under the names of the weights file, for loading,
//! saving and optimizers.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use mor_config::{ModelConfig, TensorSpec};

use crate::ops::fused::pool::reclaim;
use crate::{LayerNorm, Linear, ModelError, Table, TechnicalModel};

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

impl TechnicalModel {
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
}

struct Collector {
    values: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.push(into_values(param.val()));
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

/// Where initial values come from: a weights file or a seed.
pub(crate) type Source<'a> = dyn FnMut(&TensorSpec) -> Result<Vec<f32>, ModelError> + 'a;

/// Builds modules from named tensors, in the order of [`ModelConfig::tensors`].
pub(crate) struct Builder<'a> {
    specs: std::collections::HashMap<String, TensorSpec>,
    source: &'a mut Source<'a>,
    device: &'a burn::tensor::Device,
    eps: f32,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        config: &ModelConfig,
        source: &'a mut Source<'a>,
        device: &'a burn::tensor::Device,
    ) -> Self {
        let specs = config.tensors().into_iter();
        Self {
            specs: specs.map(|spec| (spec.name.clone(), spec)).collect(),
            source,
            device,
            eps: config.layer_norm_eps,
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.specs.contains_key(name)
    }

    fn param<const D: usize>(&mut self, name: &str) -> Result<Param<Tensor<D>>, ModelError> {
        // Callers name tensors of the configuration; a shape of zeros fits nothing a source gives.
        let spec = self.specs.get(name).cloned().unwrap_or(TensorSpec {
            name: name.to_owned(),
            shape: vec![0; D],
            component: mor_config::Component::TokenEmbedding,
        });
        let values = (self.source)(&spec)?;
        if spec.shape.len() != D || spec.shape.iter().product::<usize>() != values.len() {
            return Err(ModelError::Shape {
                what: "a tensor of the weights",
                found: vec![values.len()],
                expected: spec.shape,
            });
        }
        Ok(Param::from_data(
            TensorData::new(values, spec.shape),
            self.device,
        ))
    }

    pub(crate) fn linear(&mut self, name: &str) -> Result<Linear, ModelError> {
        let weight = self.param(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) {
            Some(self.param(&bias)?)
        } else {
            None
        };
        Ok(Linear { weight, bias })
    }

    pub(crate) fn norm(&mut self, name: &str) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm {
            weight: self.param(&format!("{name}.weight"))?,
            bias: self.param(&format!("{name}.bias"))?,
            eps: self.eps,
        })
    }

    pub(crate) fn table(&mut self, name: &str) -> Result<Table, ModelError> {
        Ok(Table {
            weight: self.param(&format!("{name}.weight"))?,
        })
    }
}
