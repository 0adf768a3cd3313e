//! Embeddings, norms, positions and attention of rows.

use crate::shader::Builder;
use crate::{MOST_ROUNDS, Shader, Storage, Variant};

/// For kernels that settle a decoded token's row.
pub(crate) const MOMENTS: &str = include_str!("../../../shaders/include/moments.wgsl");

/// Token embeddings with positions and norm. A unit a row. See `shaders/embed.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embed {
    /// Rows of the table.
    pub vocab: u32,
    /// Columns of the table, padded to a multiple of 32.
    pub columns: u32,
    /// How the table is stored.
    pub storage: Storage,
    /// Values of a row.
    pub dim: u32,
    /// Elements between rows.
    pub stride: u32,
    /// Whether a vector is added for the position.
    pub positions: bool,
    /// Whether a layer norm follows.
    pub norm: bool,
    /// Added to the variance.
    pub eps: f32,
}

impl Embed {
    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        let builder = Builder::new("embed", variant, 64)
            .constant("DIM", self.dim)
            .constant("STRIDE", self.stride)
            .float("EPS", self.eps)
            .flag("POSITIONS", self.positions)
            .flag("NORM", self.norm);
        self.storage
            .include(builder, self.vocab, self.columns)
            .build(include_str!("../../../shaders/embed.wgsl"))
    }
}

/// Layer norm of rows. A unit a row. See `shaders/layer_norm.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// Values of a row.
    pub dim: u32,
    /// Elements between rows.
    pub stride: u32,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        Builder::new("layer_norm", variant, 64)
            .constant("DIM", self.dim)
            .constant("STRIDE", self.stride)
            .float("EPS", self.eps)
            .build(include_str!("../../../shaders/layer_norm.wgsl"))
    }
}

/// The row of a decoded token to its place. One unit. See `shaders/finish.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// Values of a row.
    pub dim: u32,
    /// Elements between rows.
    pub stride: u32,
    /// Whether a step owes a norm.
    pub norm: bool,
    /// Whether only the routing knows if a step was taken.
    pub routed: bool,
    /// Layers that size the launch after them, if any do, see `shaders/route.wgsl`.
    pub routes: Option<u32>,
    /// Added to the variance.
    pub eps: f32,
}

impl Finish {
    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        let size = if variant == Variant::Portable { 1 } else { 64 };
        let builder = Builder::new("finish", variant, size);
        let builder = match self.norm {
            true => builder.include(MOMENTS),
            false => builder,
        };
        builder
            .constant("DIM", self.dim)
            .constant("STRIDE", self.stride)
            .float("EPS", self.eps)
            .flag("NORM", self.norm)
            .flag("ROUTED", self.routed && self.norm)
            .constant("ROUTES", self.routes.unwrap_or(0))
            .flag("LEADS", self.routes.is_some())
            .build(include_str!("../../../shaders/finish.wgsl"))
    }
}

/// Rows of queries, keys and values taken apart, rotated and cached. See `shaders/rotary.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rotary {
    /// Values of queries, of keys and of values.
    pub dim: u32,
    /// Channels of a head.
    pub head_dim: u32,
    /// Elements between rows that hold all three.
    pub qkv_stride: u32,
    /// Elements between rows of one.
    pub stride: u32,
    /// Whether positions are rotary.
    pub rotary: bool,
    /// Whether rows have positions of their own instead of following one another.
    pub indexed: bool,
}

impl Rotary {
    /// Workgroups along y; along x there is one for each row.
    pub fn groups(&self) -> u32 {
        self.units().div_ceil(64)
    }

    fn units(&self) -> u32 {
        3 * self.dim / if self.rotary { 2 } else { 1 }
    }

    /// The shader: the same in every variant, as nothing is shared.
    pub fn shader(&self) -> Shader {
        Builder::new("rotary", Variant::Portable, 64)
            .constant("DIM", self.dim)
            .constant("HEAD_DIM", self.head_dim)
            .constant("QKV_STRIDE", self.qkv_stride)
            .constant("STRIDE", self.stride)
            .constant("UNITS", self.units())
            .flag("ROTARY", self.rotary)
            .flag("INDEXED", self.indexed)
            .build(include_str!("../../../shaders/rotary.wgsl"))
    }
}

/// Attention of single queries to a cache. A unit a head of a row. See `shaders/attention_decode.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionDecode {
    /// Heads.
    pub heads: u32,
    /// Channels of a head.
    pub head_dim: u32,
    /// Elements between rows.
    pub stride: u32,
    /// Whether it sizes the launch that follows the step, see `shaders/route.wgsl`.
    pub leads: bool,
}

impl AttentionDecode {
    /// Invocations of a workgroup.
    const SIZE: u32 = 64;

    /// The most keys that every driver gets through, see [`crate::MOST_ROUNDS`].
    pub fn most_keys(&self, variant: Variant) -> u32 {
        if variant == Variant::Portable {
            // A round a key, and one for each column of the result.
            return MOST_ROUNDS - self.head_dim;
        }
        let part = self.head_dim.div_ceil(Self::SIZE);
        // The highest score and the sum of weights by halving, or by subgroups of four at least; the values' columns.
        let of_round = 1 + 2 * 16 + part * (1 + Self::SIZE);
        (MOST_ROUNDS - part) / of_round * Self::SIZE
    }

    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        Builder::new("attention_decode", variant, Self::SIZE)
            .constant("HEADS", self.heads)
            .constant("HEAD_DIM", self.head_dim)
            .constant("STRIDE", self.stride)
            .flag("LEADS", self.leads)
            .build(include_str!("../../../shaders/attention_decode.wgsl"))
    }
}

/// The choice of the next token. One unit. See `shaders/sample.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Number of tokens.
    pub vocab: u32,
}

impl Sample {
    /// Invocations of the workgroup.
    const LANES: u32 = 256;
    /// Most elements that the scratch buffer needs beyond the vocabulary: a round of four a lane, and a sum a lane.
    pub const SCRATCH: u32 = 5 * Self::LANES;

    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        Builder::new("sample", meeting(variant), Self::LANES)
            .constant("VOCAB", self.vocab)
            .build(include_str!("../../../shaders/sample.wgsl"))
    }
}

/// Where one unit does everything, even adapters for which barriers are expensive need them: a single invocation would
/// take too long, and more than [`MOST_ROUNDS`].
pub(crate) fn meeting(variant: Variant) -> Variant {
    match variant {
        Variant::Portable => Variant::Workgroup,
        other => other,
    }
}
