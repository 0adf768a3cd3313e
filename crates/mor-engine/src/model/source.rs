//! Where a model's tensors come from, and what they become on a device.

use super::{Linear, Norm, PANEL, Tensor};
use crate::Result;

/// How weights are kept in memory. Arithmetic is f32, except that products with int8 matrices round their inputs to int8
/// too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightPrecision {
    /// Matrices that are int8 on disk stay int8, and those that are f16 stay f16 where the processor widens them on
    /// the fly: the same results from half the memory traffic.
    #[default]
    AsStored,
    /// Everything is widened to f32 when loading.
    F32,
    /// Matrices are rounded to f16, whatever they were.
    F16,
    /// Matrices are rounded to int8, with a scale for every 32 columns of a row, unless they are int8 already.
    Q8,
}

/// Where tensors come from, and how they are packed for a device.
pub(crate) trait Source {
    /// A packed matrix.
    type Matrix;

    /// Matrices `[_, cols]`, one below the other.
    fn matrix(&self, names: &[&str], cols: usize) -> Result<Self::Matrix>;

    /// A tensor's values.
    fn values(&self, name: &str) -> Result<Vec<f32>>;

    fn linear(&self, name: &str, cols: usize) -> Result<Linear<Self::Matrix>> {
        let Linear { matrix, .. } = self.linear_without_bias(name, cols)?;
        let mut bias = self.values(&format!("{name}.bias"))?;
        bias.resize(bias.len().next_multiple_of(PANEL), 0.0);
        Ok(Linear { matrix, bias })
    }

    fn linear_without_bias(&self, name: &str, cols: usize) -> Result<Linear<Self::Matrix>> {
        Ok(Linear {
            matrix: self.matrix(&[&format!("{name}.weight")], cols)?,
            bias: Vec::new(),
        })
    }

    /// Query, key and value projections as one.
    fn qkv(&self, names: [String; 3], dim: usize) -> Result<Linear<Self::Matrix>> {
        let names = names.each_ref().map(String::as_str);
        Ok(Linear {
            matrix: self.matrix(&names, dim)?,
            bias: Vec::new(),
        })
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let gain = self.values(&format!("{name}.weight"))?;
        let bias = self.values(&format!("{name}.bias"))?;
        Ok(Norm { gain, bias })
    }
}

/// Gives a tensor by name.
pub(crate) type TensorSource<'a> = dyn Fn(&str) -> Result<Tensor<'a>> + 'a;
