//! What every module is told of a pass through the model.

use mor_kernels::MatmulPrecision;

/// What every module is told of a pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mode {
    /// Whether dropout is active.
    pub training: bool,
    /// As in [`crate::ops::linear()`].
    pub matmul: MatmulPrecision,
}
