//! What routers see, and what they decide.

use std::ops::Range;

use crate::linear::Activation;
use crate::rows::MOMENTS;
use crate::shader::Builder;
use crate::{Shader, Variant};

/// What a decision leaves behind for the dispatches that obey it. See `shaders/include/decision.wgsl`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Steps for each class.
    pub class_steps: Vec<u32>,
    /// The most steps of a layer.
    pub max_steps: u32,
    /// Positions, padded.
    pub context: u32,
    /// Words before the layers' depths in `routing`.
    pub header: u32,
    /// Workgroups of each of the operations of a step for one row.
    pub grids: Vec<[u32; 3]>,
}

impl Decision {
    /// Bytes from the first argument of an operation of a step on, in the buffer of arguments.
    pub fn argument(&self, layer: usize, step: usize, operation: usize) -> u64 {
        let step = layer * self.max_steps as usize + step;
        ((step * self.grids.len() + operation) * 12) as u64
    }

    fn include(&self, builder: Builder) -> Builder {
        builder
            .constant("CLASSES", self.class_steps.len() as u32)
            .constant("MAX_STEPS", self.max_steps)
            .constant("CONTEXT", self.context)
            .constant("HEADER", self.header)
            .constant("OPERATIONS", self.grids.len() as u32)
            .array("CLASS_STEPS", &self.class_steps)
            .array("GRIDS", self.grids.as_flattened())
    }
}

const DECISION: &str = include_str!("../../../shaders/include/decision.wgsl");

/// A dense layer of a router: where its weights, `[inputs][outputs]`, and then its biases begin, and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dense {
    /// Index of the first weight.
    pub at: u32,
    /// Values it reads.
    pub inputs: u32,
    /// Values it makes.
    pub outputs: u32,
}

impl Dense {
    /// Rounds of an invocation's loops over it, see [`crate::MOST_ROUNDS`].
    pub fn rounds(&self) -> u64 {
        u64::from(self.outputs.div_ceil(LANES)) * (u64::from(self.inputs) + 1)
    }
}

/// Invocations that share a router's work.
const LANES: u32 = 256;

/// Everything between two layers of a decoded token that take steps. One unit. See `shaders/route.wgsl`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The layers that have a router.
    pub layers: Range<u32>,
    /// Elements of each router's part of the buffer.
    pub router_stride: u32,
    /// Values of a row.
    pub dim: u32,
    /// Elements of a row.
    pub stride: u32,
    /// Added to the variance.
    pub eps: f32,
    /// Where gain and bias of the norm that the layer before owes begin, in a post-LN model.
    pub norm: Option<u32>,
    /// Followed by tanh; the conversational model's only.
    pub pooler: Option<Dense>,
    /// Followed by GELU.
    pub hidden: Dense,
    /// Scores of the classes.
    pub classes: Dense,
    /// Whether the last decision holds and the router is not asked.
    pub follow: bool,
    /// What a decision leaves behind.
    pub decision: Decision,
}

impl Route {
    /// Elements of its scratch buffer.
    pub fn scratch(&self) -> u32 {
        3 * self.stride + self.classes.outputs.next_multiple_of(64)
    }

    /// The shader.
    pub fn shader(&self, variant: Variant) -> Shader {
        let builder = Builder::new("route", crate::rows::meeting(variant), LANES)
            .constant("FIRST", self.layers.start)
            .constant("END", self.layers.end)
            .constant("ROUTER_STRIDE", self.router_stride)
            .constant("DIM", self.dim)
            .constant("STRIDE", self.stride)
            .float("EPS", self.eps)
            .constant("NORM_AT", self.norm.unwrap_or(0))
            .constant("POOLER_AT", self.pooler.map_or(0, |pooler| pooler.at))
            .constant("POOLED", self.hidden.inputs)
            .constant("HIDDEN_AT", self.hidden.at)
            .constant("HIDDEN", self.hidden.outputs)
            .constant("CLASSES_AT", self.classes.at)
            .flag("POST_NORM", self.norm.is_some())
            .flag("POOLER", self.pooler.is_some())
            .flag("FOLLOW", self.follow);
        let builder = self
            .decision
            .include(builder)
            .flag("ARGUMENTS", !self.follow);
        let builder = match self.norm {
            Some(_) => builder.include(MOMENTS),
            None => builder,
        };
        Activation::Gelu
            .include(builder)
            .include(DECISION)
            .build(include_str!("../../../shaders/route.wgsl"))
    }
}

/// Means over the positions so far. See `shaders/pool.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Elements between rows.
    pub stride: u32,
    /// Whether hidden positions count too.
    pub all: bool,
}

impl Pool {
    /// The shader: the same in every variant, as nothing is shared. A unit a column.
    pub fn shader(&self) -> Shader {
        Builder::new("pool", Variant::Portable, 64)
            .constant("STRIDE", self.stride)
            .flag("ALL", self.all)
            .build(include_str!("../../../shaders/pool.wgsl"))
    }
}

/// Decisions for many rows. See `shaders/decide.wgsl`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decide {
    /// Elements between rows of scores.
    pub scores_stride: u32,
    /// Whether one row of scores decides for all positions.
    pub whole: bool,
    /// What a decision leaves behind.
    pub decision: Decision,
}

impl Decide {
    /// The shader: the same in every variant, as nothing is shared. A unit a position.
    pub fn shader(&self) -> Shader {
        let builder = Builder::new("decide", Variant::Portable, 64)
            .constant("SCORES_STRIDE", self.scores_stride)
            .flag("WHOLE", self.whole)
            .flag("ARGUMENTS", true);
        self.decision
            .include(builder)
            .include(DECISION)
            .build(include_str!("../../../shaders/decide.wgsl"))
    }
}

/// Sizes of dispatches for a number of rows. One unit. See `shaders/arguments.wgsl`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arguments {
    /// For each operation: rows of a workgroup, workgroups along y and along z.
    pub grids: Vec<[u32; 3]>,
}

impl Arguments {
    /// The shader.
    pub fn shader(&self) -> Shader {
        Builder::new("arguments", Variant::Portable, 1)
            .constant("OPERATIONS", self.grids.len() as u32)
            .array("GRIDS", self.grids.as_flattened())
            .build(include_str!("../../../shaders/arguments.wgsl"))
    }
}
