//! A model's weights on a GPU.

mod model;
mod parts;
mod shapes;
#[cfg(test)]
mod tests;
mod upload;

pub use model::GpuModel;
pub(crate) use parts::{GpuLayer, GpuLinear, GpuMatrix, GpuPositions, RouteWeights, RouterLayout};
pub(crate) use shapes::attention;
