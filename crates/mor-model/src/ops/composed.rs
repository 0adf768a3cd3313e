//! The composed form of every operation, under one name: what tests hold the kernels to. Arguments are those of the
//! functions of the same names in [`super`], less what only kernels take.

pub use super::attention::composed::causal_attention;
pub use super::cross_entropy::composed::{linear_cross_entropy_losses, mean_of_counted};
pub use super::embedding::composed as embedding;
pub use super::gelu::composed::{gelu, linear_gelu};
pub use super::layer_norm::composed::layer_norm;
pub use super::linear::composed::linear;
pub use super::rotary::composed::rotary;
pub use super::rows::composed::{gather_rows, scatter_rows};
