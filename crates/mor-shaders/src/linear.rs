//! Products with weights.

use crate::shader::Builder;
use crate::{Shader, Storage, Variant};

/// What a product's values pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    None,
    /// The exact (erf) GELU.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    pub(crate) fn include(self, builder: Builder) -> Builder {
        builder
            .flag("GELU", self == Self::Gelu)
            .flag("TANH", self == Self::Tanh)
            .include(include_str!("../../../shaders/include/activation.wgsl"))
    }
}

/// What is added to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Residual {
    /// Nothing.
    None,
    /// A row, as it is.
    Plain,
    /// A row through a layer norm whose gain and bias are `stride` values each.
    Norm {
        /// Values of gain and of bias.
        stride: u32,
    },
}

/// Where a product's values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// To one row.
    Row,
    /// To a row of queries and into a cache of keys and values.
    Qkv {
        /// Channels of a head.
        head_dim: u32,
        /// Elements between the cache's rows.
        cache_stride: u32,
        /// Whether queries and keys are rotated by position.
        rotary: bool,
    },
}

/// `y = act(weights · x + bias) + residual` for one row: decoding. See `shaders/matvec.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matvec {
    /// Rows of the weights.
    pub rows: u32,
    /// Columns of the weights, padded to a multiple of 32.
    pub columns: u32,
    /// How the weights are stored.
    pub storage: Storage,
    /// Whether a bias is added.
    pub bias: bool,
    /// Values of `x` that count in the layer norm it is read through, if it is.
    pub norm: Option<u32>,
    /// What is added.
    pub residual: Residual,
    /// What values pass through before that.
    pub activation: Activation,
    /// Where they go.
    pub target: Target,
    /// Added to variances.
    pub eps: f32,
}

impl Matvec {
    /// Units of work.
    pub fn units(&self, variant: Variant) -> u32 {
        self.rows.div_ceil(Self::unit_rows(variant))
    }

    /// Rows of a unit, which reads `x` once for all of them.
    fn unit_rows(variant: Variant) -> u32 {
        match variant {
            // Without lanes to share it, reading costs as much as the products.
            Variant::Portable => 8,
            Variant::Workgroup | Variant::Subgroup => 4,
        }
    }

    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        let (head_dim, cache_stride, rotary, qkv) = match self.target {
            Target::Row => (1, 1, false, false),
            Target::Qkv {
                head_dim,
                cache_stride,
                rotary,
            } => (head_dim, cache_stride, rotary, true),
        };
        let residual_stride = match self.residual {
            Residual::Norm { stride } => stride,
            Residual::None | Residual::Plain => 0,
        };
        // Small workgroups share few rows out evenly among a processor's cores.
        let size = if variant == Variant::Portable { 8 } else { 64 };
        let builder = Builder::new("matvec", variant, size)
            .constant("ROWS", self.rows)
            .constant("UNIT_ROWS", Self::unit_rows(variant))
            .constant("DIM", self.norm.unwrap_or(0))
            .constant("RESIDUAL_STRIDE", residual_stride)
            .constant("HEAD_DIM", head_dim)
            .constant("CACHE_STRIDE", cache_stride)
            .constant("PAIR", if rotary { head_dim / 2 } else { 1 })
            .float("EPS", self.eps)
            .flag("BIAS", self.bias)
            .flag("NORM", self.norm.is_some())
            .flag("RESIDUAL", self.residual != Residual::None)
            .flag("RESIDUAL_NORM", residual_stride > 0)
            .flag("QKV", qkv)
            .flag("ROTARY", rotary);
        let builder = self.storage.include(builder, self.rows, self.columns);
        self.activation
            .include(builder)
            .build(include_str!("../../../shaders/matvec.wgsl"))
    }
}

/// `y = act(x · weightsᵀ + bias) + residual` for many rows: prefill. See `shaders/matmul.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matmul {
    /// Rows of the weights, which are columns of `y`.
    pub rows: u32,
    /// Columns of the weights and elements of a row of `x`, padded to a multiple of 32.
    pub columns: u32,
    /// How the weights are stored.
    pub storage: Storage,
    /// Elements between rows of `y` and of the residual.
    pub y_stride: u32,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether a row is added.
    pub residual: bool,
    /// What values pass through before that.
    pub activation: Activation,
}

impl Matmul {
    /// Rows of a workgroup, and workgroups along y.
    pub fn tiles(&self, variant: Variant) -> (u32, u32) {
        match variant {
            Variant::Portable => (4, self.rows.div_ceil(4 * 64)),
            Variant::Workgroup | Variant::Subgroup => (64, self.rows.div_ceil(64)),
        }
    }

    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        let size = match variant {
            Variant::Portable => 64,
            Variant::Workgroup | Variant::Subgroup => 256,
        };
        // Its tiles need no sums across invocations.
        let used = match variant {
            Variant::Subgroup => Variant::Workgroup,
            other => other,
        };
        let builder = Builder::new("matmul", used, size)
            .constant("ROWS", self.rows)
            .constant("Y_STRIDE", self.y_stride)
            .flag("BIAS", self.bias)
            .flag("RESIDUAL", self.residual);
        let builder = self.storage.include(builder, self.rows, self.columns);
        self.activation
            .include(builder)
            .build(include_str!("../../../shaders/matmul.wgsl"))
    }
}
