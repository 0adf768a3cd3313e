//! Compiles the kernels of a model for a device.

use std::sync::Arc;

use mor_config::{ModelConfig, Pooling};
use mor_shaders::{
    Activation, Arguments, AttentionDecode, Decide, Decision, Embed, Finish, Gather, LayerNorm,
    Matmul, Matvec, Pool, Residual, Rotary, Route, Sample, Scatter, Shader, Target, Variant,
    select,
};

use super::block::{BlockPipelines, Product};
use super::layout::{header, routes};
use super::mode::Mode;
use super::pipelines::{
    Pipelines, RouterPipelines, SelectionPipelines, SizedPipeline, StepPipelines,
};
use crate::gpu::device::{Pipeline, stride};
use crate::gpu::weights::{
    GpuLayer, GpuLinear, GpuMatrix, GpuModel, GpuPositions, RouteWeights, attention,
};
use crate::model::NormOrder;

/// Makes kernels for a model.
pub(super) struct Maker<'a> {
    pub(super) model: &'a GpuModel,
    pub(super) mode: Mode,
}

impl Maker<'_> {
    fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    fn variant(&self) -> Variant {
        self.model.gpu.variant()
    }

    fn dim(&self) -> u32 {
        self.config().hidden_size as u32
    }

    fn stride(&self) -> u32 {
        stride(self.config().hidden_size) as u32
    }

    fn rotary(&self) -> bool {
        matches!(self.model.positions, GpuPositions::Rotary(_))
    }

    fn compile(&self, shader: Shader) -> Arc<Pipeline> {
        self.model.gpu.pipeline(shader)
    }

    fn units(&self, shader: Shader, units: u32) -> SizedPipeline {
        let pipeline = self.compile(shader);
        let grid = pipeline.grid(units);
        SizedPipeline { pipeline, grid }
    }

    fn plain(&self, matrix: &GpuMatrix, bias: bool) -> Matvec {
        Matvec {
            rows: matrix.rows,
            columns: matrix.columns,
            storage: matrix.storage,
            bias,
            norm: None,
            residual: Residual::None,
            activation: Activation::None,
            target: Target::Row,
            eps: self.config().layer_norm_eps,
        }
    }

    fn matvec(&self, op: Matvec) -> SizedPipeline {
        self.units(op.shader(self.variant()), op.units(self.variant()))
    }

    fn layer_norm(&self) -> Shader {
        let op = LayerNorm {
            dim: self.dim(),
            stride: self.stride(),
            eps: self.config().layer_norm_eps,
        };
        op.shader(self.variant())
    }

    fn gather(&self) -> Gather {
        Gather {
            stride: self.stride(),
            half: false,
        }
    }

    /// A product over rows whose results lie `width` elements apart.
    fn product(
        &self,
        linear: &GpuLinear,
        width: usize,
        residual: bool,
        activation: Activation,
    ) -> Product {
        let matrix = &linear.matrix;
        let op = Matmul {
            rows: matrix.rows,
            columns: matrix.columns,
            storage: matrix.storage,
            y_stride: stride(width) as u32,
            bias: linear.bias.is_some(),
            residual,
            activation,
        };
        Product {
            pipeline: self.compile(op.shader(self.variant())),
            tiles: op.tiles(self.variant()),
        }
    }

    /// `selects`: whether some rows of a block may take a step and others not.
    pub(super) fn pipelines(&self, selects: bool) -> Pipelines {
        let (model, config, variant) = (self.model, self.config(), self.variant());
        let (dim, width, eps) = (self.dim(), self.stride(), config.layer_norm_eps);
        let embed = Embed {
            vocab: model.table.rows,
            columns: model.table.columns,
            storage: model.table.storage,
            dim,
            stride: width,
            positions: !self.rotary(),
            norm: model.embedding_norm.is_some(),
            eps,
        };
        let head = Matvec {
            norm: Some(dim),
            ..self.plain(&model.head, false)
        };
        let sample = Sample {
            vocab: config.vocab_size as u32,
        };
        Pipelines {
            embed: self.compile(embed.shader(variant)),
            layer_norm: self.compile(self.layer_norm()),
            head: self.matvec(head),
            sample: self.compile(sample.shader(variant)),
            selection: selects.then(|| self.selection()),
        }
    }

    fn selection(&self) -> SelectionPipelines {
        let variant = self.variant();
        let gather = self.gather();
        let scatter = Scatter {
            stride: self.stride(),
            half: false,
        };
        SelectionPipelines {
            select: self.compile(select(variant)),
            gather: self.compile(gather.shader()),
            scatter: self.compile(scatter.shader()),
        }
    }

    /// See [`routes`].
    fn routes(&self) -> Option<u32> {
        let routers = self.model.routers.as_ref();
        let routers = routers.filter(|_| !matches!(self.mode, Mode::Fixed(_)))?;
        routes(routers.layers.len())
    }

    pub(super) fn attention_decode(&self, recurs: bool) -> AttentionDecode {
        AttentionDecode {
            heads: self.config().num_attention_heads as u32,
            head_dim: self.config().head_dim() as u32,
            stride: self.stride(),
            leads: recurs && self.routes().is_some(),
        }
    }

    /// Kernels of a step of a decoded token whose input is read through a norm of the layer's own kind, or as it is.
    pub(super) fn step(&self, layer: &GpuLayer, owed: bool) -> StepPipelines {
        let model = self.model;
        let (dim, width) = (self.dim(), self.stride());
        let block = &layer.block;
        let post = model.norm_order == NormOrder::Post;
        let attention = self.attention_decode(layer.recurs);
        let (heads, head_dim) = (attention.heads, attention.head_dim);
        let norm = |on: bool| on.then_some(dim);
        let residual = match owed {
            true => Residual::Norm { stride: width },
            false => Residual::Plain,
        };
        let bias = |linear: &GpuLinear| linear.bias.is_some();
        StepPipelines {
            projection: layer.projections.first().map(|projection| {
                self.matvec(Matvec {
                    norm: norm(owed),
                    ..self.plain(&projection.matrix, true)
                })
            }),
            qkv: self.matvec(Matvec {
                norm: norm(!post),
                target: Target::Qkv {
                    head_dim,
                    cache_stride: width,
                    rotary: self.rotary(),
                },
                ..self.plain(&block.qkv.matrix, false)
            }),
            attention: self.units(attention.shader(self.variant()), heads),
            output: self.matvec(Matvec {
                residual,
                ..self.plain(&block.output.matrix, bias(&block.output))
            }),
            linear1: self.matvec(Matvec {
                norm: Some(dim),
                activation: Activation::Gelu,
                ..self.plain(&block.linear1.matrix, bias(&block.linear1))
            }),
            linear2: self.matvec(Matvec {
                residual: match post {
                    true => Residual::Norm { stride: width },
                    false => Residual::Plain,
                },
                ..self.plain(&block.linear2.matrix, bias(&block.linear2))
            }),
        }
    }

    /// Kernels of a step of many rows, which follow one another or have positions of their own.
    pub(super) fn block(&self, layer: &GpuLayer, indexed: bool) -> BlockPipelines {
        let (width, config) = (self.stride(), self.config());
        let block = &layer.block;
        let dim = config.hidden_size;
        let heads = config.num_attention_heads as u32;
        let rotary = Rotary {
            dim: self.dim(),
            head_dim: config.head_dim() as u32,
            qkv_stride: stride(3 * dim) as u32,
            stride: width,
            rotary: self.rotary(),
            indexed,
        };
        let attention = attention(config, indexed);
        let inner = config.intermediate_size;
        BlockPipelines {
            projection: layer
                .projections
                .first()
                .map(|projection| self.product(projection, dim, false, Activation::None)),
            qkv: self.product(&block.qkv, 3 * dim, false, Activation::None),
            output: self.product(&block.output, dim, true, Activation::None),
            linear1: self.product(&block.linear1, inner, false, Activation::Gelu),
            linear2: self.product(&block.linear2, dim, true, Activation::None),
            rotary: self.compile(rotary.shader()),
            rotary_groups: rotary.groups(),
            attention: self.compile(attention.shader(self.variant())),
            attention_rows: attention.rows_per_workgroup(self.variant()),
            heads,
            norm_rows: self.layer_norm().units_per_workgroup,
            move_slices: self.gather().slices(),
        }
    }

    /// The kernel that brings a decoded row to its place. `owed`: whether a step may leave it a norm; `routed`: whether
    /// only the routing knows.
    pub(super) fn finish(&self, owed: bool, routed: bool) -> SizedPipeline {
        let op = Finish {
            dim: self.dim(),
            stride: self.stride(),
            norm: owed,
            routed,
            routes: self.routes(),
            eps: self.config().layer_norm_eps,
        };
        self.units(op.shader(self.variant()), 1)
    }

    /// Kernels of the routers, which all have the same shapes; `None` in a model without.
    pub(super) fn router(&self, grids: Vec<[u32; 3]>) -> Option<RouterPipelines> {
        let config = self.config();
        let RouteWeights { layers, layout, .. } = self.model.routers.as_ref()?;
        let router = self.model.layers[layers.start].router.as_ref()?;
        let decision = Decision {
            class_steps: self.model.class_steps.clone(),
            max_steps: config.routing.max_steps as u32,
            context: stride(config.max_position_embeddings) as u32,
            header: header(self.model.layers.len()) as u32,
            grids,
        };
        let route = |follow| {
            let op = Route {
                layers: layers.start as u32..layers.end as u32,
                router_stride: layout.stride,
                dim: self.dim(),
                stride: self.stride(),
                eps: config.layer_norm_eps,
                norm: layout.norm,
                pooler: layout.pooler,
                hidden: layout.hidden,
                classes: layout.classes,
                follow,
                decision: decision.clone(),
            };
            self.units(op.shader(self.variant()), 1)
        };
        let pool = Pool {
            stride: self.stride(),
            all: config.routing.pooling == Pooling::Sequence,
        };
        let decide = Decide {
            scores_stride: stride(self.model.class_steps.len()) as u32,
            whole: config.routing.pooling != Pooling::Prefix,
            decision: decision.clone(),
        };
        let classes = self.model.class_steps.len();
        Some(RouterPipelines {
            route: route(false),
            follow: route(true),
            pool: self.compile(pool.shader()),
            pooler: router
                .pooler
                .as_ref()
                .map(|l| self.product(l, config.hidden_size, false, Activation::Tanh)),
            hidden: self.product(
                &router.hidden,
                config.router_hidden(),
                false,
                Activation::Gelu,
            ),
            classes: self.product(&router.classes, classes, false, Activation::None),
            decide: self.compile(decide.shader()),
            decision,
        })
    }

    /// The kernel that turns a number of rows into the sizes of a step's dispatches, by [`super::BlockOp`].
    pub(super) fn arguments(&self, block: &BlockPipelines) -> Arc<Pipeline> {
        let grids = block.grids().to_vec();
        self.compile(Arguments { grids }.shader())
    }
}
