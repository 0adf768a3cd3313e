//! A model's weights on a GPU.

use std::path::Path;
use std::sync::Arc;

use half::f16;
use mor_config::{ModelConfig, QUANTIZED_BLOCK, Weights, check_tensors};
use mor_shaders::{Dense, Storage};

use super::Gpu;
use super::buffer::{Slice, stride};
use crate::cpu::tensor::{Stored, Tensor};
use crate::model::{
    Linear, Norm, NormOrder, Parts, PositionTable, Router, Source, TensorSource, WeightPrecision,
    head_name,
};
use crate::{Result, random};

/// Columns that are packed at once: a block of int8 values with one scale.
const COLUMNS: usize = QUANTIZED_BLOCK;

/// A matrix `[rows, columns]`, row by row.
#[derive(Clone, Debug)]
pub(super) struct GpuMatrix {
    pub(super) slice: Slice,
    pub(super) rows: u32,
    /// Padded.
    pub(super) columns: u32,
    pub(super) storage: Storage,
}

impl GpuMatrix {
    /// Bytes that a product with it reads.
    pub(super) fn bytes(&self) -> u64 {
        self.storage
            .bytes(self.rows as usize, self.columns as usize) as u64
    }
}

/// A linear layer.
pub(super) struct GpuLinear {
    pub(super) matrix: GpuMatrix,
    pub(super) bias: Option<Slice>,
}

/// As [`crate::model::Block`]; norms are gain, then bias, each padded.
pub(super) struct GpuBlock {
    pub(super) qkv: GpuLinear,
    pub(super) output: GpuLinear,
    pub(super) norm1: Slice,
    pub(super) linear1: GpuLinear,
    pub(super) linear2: GpuLinear,
    pub(super) norm2: Slice,
}

/// A router's layers, for many rows at once.
pub(super) struct GpuRouter {
    pub(super) pooler: Option<GpuLinear>,
    pub(super) hidden: GpuLinear,
    pub(super) classes: GpuLinear,
}

/// Everything about a layer that `shaders/route.wgsl` reads, in one buffer.
pub(super) struct RouteWeights {
    pub(super) slice: Slice,
    pub(super) norm: Option<u32>,
    pub(super) pooler: Option<Dense>,
    pub(super) hidden: Dense,
    pub(super) classes: Dense,
}

/// A layer.
pub(super) struct GpuLayer {
    pub(super) block: GpuBlock,
    pub(super) recurs: bool,
    pub(super) router: Option<GpuRouter>,
    pub(super) route: Option<RouteWeights>,
    pub(super) projections: Vec<GpuLinear>,
}

/// Where positions enter.
pub(super) enum GpuPositions {
    /// `[context][stride]`, added to embeddings.
    Added(Slice),
    /// Cosine and sine, `[context][head_dim / 2]`.
    Rotary(Slice),
}

/// A model on a GPU: immutable, and shared between decoders by `Arc`.
pub struct GpuModel {
    pub(super) gpu: Arc<Gpu>,
    pub(super) config: ModelConfig,
    pub(super) table: GpuMatrix,
    pub(super) positions: GpuPositions,
    pub(super) embedding_norm: Option<Slice>,
    pub(super) layers: Vec<GpuLayer>,
    pub(super) norm_order: NormOrder,
    pub(super) class_steps: Vec<u32>,
    pub(super) final_norm: Slice,
    pub(super) head: GpuMatrix,
    weight_bytes: u64,
}

impl std::fmt::Debug for GpuModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuModel")
            .field("config", &self.config)
            .field("gpu", &self.gpu)
            .finish()
    }
}

impl GpuModel {
    /// Uploads a model's weights, once.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`] when configuration and tensors do not fit each other,
    /// [`crate::EngineError::GpuLimit`], [`crate::EngineError::GpuOutOfMemory`] or
    /// [`crate::EngineError::DeviceLost`].
    pub async fn from_parts(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        weights: &Weights,
        precision: WeightPrecision,
    ) -> Result<Self> {
        config.validate(Path::new(mor_config::CONFIG_FILE))?;
        check_tensors(&config, weights)?;
        Self::build(gpu, config, precision, &|name| Tensor::open(weights, name)).await
    }

    /// A model with the random weights of [`crate::Model::random`].
    ///
    /// # Errors
    /// As for [`Self::from_parts`].
    pub async fn random(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        seed: u64,
        precision: WeightPrecision,
    ) -> Result<Self> {
        config.validate(Path::new("configuration"))?;
        let tensors = config.tensors().into_iter();
        let specs: std::collections::HashMap<_, _> =
            tensors.map(|spec| (spec.name, spec.shape)).collect();
        let tensor = |name: &str| {
            let shape = specs.get(name).map_or(&[][..], Vec::as_slice);
            Ok(Tensor::made(random::tensor(name, shape, seed)))
        };
        Self::build(gpu, config, precision, &tensor).await
    }

    async fn build<'a>(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        precision: WeightPrecision,
        tensor: &'a TensorSource<'a>,
    ) -> Result<Self> {
        let bytes = config.parameter_count().total as u64 * 4;
        let device = Arc::clone(&gpu);
        device
            .allocate("the model's weights", bytes, || {
                Self::place(gpu, config, precision, tensor)
            })
            .await
    }

    fn place<'a>(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        precision: WeightPrecision,
        tensor: &'a TensorSource<'a>,
    ) -> Result<Self> {
        let source = GpuSource {
            gpu: &gpu,
            tensor,
            precision,
        };
        let Parts {
            table: table_name,
            embedding_norm,
            layers,
            norm_order,
            final_norm,
        } = Parts::load(&config, &source)?;
        let dim = config.hidden_size;
        let head = source
            .matrix(&[&head_name(&config, table_name)], dim)?
            .matrix;
        let table = source.table(&config, table_name, &head)?;
        let positions = source.positions(&config)?;
        let embedding_norm = embedding_norm.map(|name| source.norm(name)).transpose()?;
        let embedding_norm = embedding_norm
            .map(|norm| source.upload_norm(&norm))
            .transpose()?;
        let final_norm = source.upload_norm(&source.norm(final_norm)?)?;
        let mut placed = Vec::with_capacity(layers.len());
        let mut owed = None;
        for (index, layer) in layers.into_iter().enumerate() {
            let route = match (&layer.router, layer.recurs) {
                (Some(router), true) => {
                    Some(source.route(index, router, owed.as_ref(), norm_order, dim)?)
                }
                _ => None,
            };
            let block = layer.block;
            let norms = [&block.norm1, &block.norm2];
            let [norm1, norm2] = norms.map(|norm| source.upload_norm(norm));
            placed.push(GpuLayer {
                block: GpuBlock {
                    norm1: norm1?,
                    norm2: norm2?,
                    qkv: source.place(block.qkv)?,
                    output: source.place(block.attention_output)?,
                    linear1: source.place(block.linear1)?,
                    linear2: source.place(block.linear2)?,
                },
                recurs: layer.recurs,
                route,
                router: match layer.router {
                    Some(router) => Some(GpuRouter {
                        pooler: router.pooler.map(|l| source.place(l)).transpose()?,
                        hidden: source.place(router.hidden)?,
                        classes: source.place(router.output)?,
                    }),
                    None => None,
                },
                projections: layer
                    .step_projections
                    .into_iter()
                    .map(|linear| source.place(linear))
                    .collect::<Result<_>>()?,
            });
            owed = Some(block.norm2);
        }
        let class_steps = config.routing.steps_of_classes();
        let mut model = Self {
            class_steps: class_steps.into_iter().map(|steps| steps as u32).collect(),
            table,
            positions,
            embedding_norm,
            layers: placed,
            norm_order,
            final_norm,
            head,
            weight_bytes: 0,
            config,
            gpu: Arc::clone(&gpu),
        };
        model.weight_bytes = model.count_bytes();
        Ok(model)
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where it is.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Bytes of all matrices and token tables on the GPU.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn count_bytes(&self) -> u64 {
        let tied = self.table.slice == self.head.slice;
        let table = if tied { 0 } else { self.table.bytes() };
        let layers = self.layers.iter().map(|layer| {
            let projections = layer.projections.iter();
            let projections: u64 = projections.map(|linear| linear.matrix.bytes()).sum();
            let route = layer.route.as_ref().map_or(0, |route| route.slice.size);
            layer.block.bytes() + projections + route
        });
        table + self.head.bytes() + layers.sum::<u64>()
    }

    /// Bytes of matrices that decoding a token reads when its layers take `steps` steps, the routers' included where
    /// they decide.
    pub fn bytes_per_token(&self, steps: &[u8], routed: bool) -> u64 {
        let mut steps = steps.iter();
        let layers = self.layers.iter().map(|layer| {
            let depth = match layer.recurs {
                true => steps.next().copied().map_or(0, usize::from),
                false => 1,
            };
            let projections = layer.projections.iter().take(depth);
            let projections: u64 = projections.map(|linear| linear.matrix.bytes()).sum();
            let route = layer.route.as_ref().filter(|_| routed);
            let route = route.map_or(0, |route| route.slice.size);
            depth as u64 * layer.block.bytes() + projections + route
        });
        layers.sum::<u64>() + self.head.bytes()
    }
}

impl GpuBlock {
    fn bytes(&self) -> u64 {
        let all = [&self.qkv, &self.output, &self.linear1, &self.linear2];
        all.iter().map(|linear| linear.matrix.bytes()).sum()
    }
}

/// A matrix that was uploaded, and its values where they are needed again.
struct Uploaded {
    matrix: GpuMatrix,
    /// Of routers, whose layers are packed once more for `shaders/route.wgsl`; else empty.
    values: Vec<f32>,
}

/// Packs for the GPU's kernels.
struct GpuSource<'g, 'a> {
    gpu: &'g Arc<Gpu>,
    tensor: &'g TensorSource<'a>,
    precision: WeightPrecision,
}

impl Source for GpuSource<'_, '_> {
    type Matrix = Uploaded;

    fn matrix(&self, names: &[&str], cols: usize) -> Result<Uploaded> {
        let parts: Result<Vec<_>> = names.iter().map(|name| (self.tensor)(name)).collect();
        let parts = parts?;
        let all = |stored| parts.iter().all(|part| part.stored() == stored);
        let storage = match self.precision {
            WeightPrecision::F16 => Storage::F16,
            WeightPrecision::Q8 => Storage::Q8,
            WeightPrecision::AsStored if all(Stored::Q8) => Storage::Q8,
            WeightPrecision::AsStored if all(Stored::F16) => Storage::F16,
            WeightPrecision::AsStored | WeightPrecision::F32 => Storage::F32,
        };
        let routers = names.iter().any(|name| name.contains("router"));
        let mut values = Vec::new();
        if routers {
            for part in &parts {
                let mut some = vec![0.0; part.len()];
                part.read(0, &mut some);
                values.extend_from_slice(&some);
            }
        }
        // As exact as they come: they are small, and a decision is all or nothing.
        let storage = if routers { Storage::F32 } else { storage };
        let name = names.first().copied().unwrap_or("weights");
        let matrix = self.upload(name, &parts, cols, storage)?;
        Ok(Uploaded { matrix, values })
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        (self.tensor)(name).map(Tensor::into_f32)
    }
}

impl GpuSource<'_, '_> {
    /// Matrices `[_, cols]`, one below the other.
    fn upload(
        &self,
        name: &str,
        parts: &[Tensor<'_>],
        cols: usize,
        storage: Storage,
    ) -> Result<GpuMatrix> {
        // As rows of what it is multiplied with.
        let columns = stride(cols);
        let rows: usize = parts.iter().map(|part| part.len() / cols.max(1)).sum();
        let mut bytes = Vec::with_capacity(storage.bytes(rows, columns));
        let mut scales = Vec::new();
        for part in parts {
            for at in (0..part.len()).step_by(cols.max(1)) {
                for col in (0..columns).step_by(COLUMNS) {
                    let width = cols.saturating_sub(col).min(COLUMNS);
                    let at = at + col.min(cols);
                    match storage {
                        Storage::F32 => {
                            let mut block = [0.0_f32; COLUMNS];
                            part.read(at, &mut block[..width]);
                            bytes.extend_from_slice(bytemuck::cast_slice(&block));
                        }
                        Storage::F16 => {
                            let mut block = [f16::ZERO; COLUMNS];
                            part.read_f16(at, &mut block[..width]);
                            bytes.extend_from_slice(bytemuck::cast_slice(&block));
                        }
                        Storage::Q8 => {
                            let mut block = [0_i8; COLUMNS];
                            // Padding alone has no scale.
                            scales.push(match width {
                                0 => f16::ZERO,
                                _ => part.read_q8(at, &mut block[..width]),
                            });
                            bytes.extend_from_slice(bytemuck::cast_slice(&block));
                        }
                    }
                }
            }
            part.release(0..part.len());
        }
        if scales.len() % 2 == 1 {
            scales.push(f16::ZERO);
        }
        bytes.extend_from_slice(bytemuck::cast_slice(&scales));
        Ok(GpuMatrix {
            slice: self.gpu.upload(name, &bytes)?,
            rows: rows as u32,
            columns: columns as u32,
            storage,
        })
    }

    /// The table of token embeddings, which is the head's where they are tied. Adaptive embeddings are multiplied
    /// out: the GPU holds one table.
    fn table(&self, config: &ModelConfig, name: &str, head: &GpuMatrix) -> Result<GpuMatrix> {
        if config.tie_word_embeddings {
            return Ok(head.clone());
        }
        let dim = config.hidden_size;
        if config.adaptive_embedding.is_none() {
            return Ok(self.matrix(&[&format!("{name}.weight")], dim)?.matrix);
        }
        let mut table = Vec::with_capacity(config.vocab_size * dim);
        for (band, (_, width)) in config.embedding_bands().into_iter().enumerate() {
            let rows = self.values(&format!("{name}.emb_layers.{band}.weight"))?;
            let projection = self.values(&format!("{name}.emb_projs.{band}.weight"))?;
            for row in rows.chunks_exact(width.max(1)) {
                let columns = projection.chunks_exact(width.max(1));
                table.extend(
                    columns.map(|column| row.iter().zip(column).map(|(a, b)| a * b).sum::<f32>()),
                );
            }
        }
        self.upload(name, &[Tensor::made(table)], dim, Storage::F32)
    }

    fn positions(&self, config: &ModelConfig) -> Result<GpuPositions> {
        let dim = config.hidden_size;
        Ok(match PositionTable::load(config, self)? {
            PositionTable::Added(table) => {
                let mut rows = Vec::with_capacity(table.len() / dim.max(1) * stride(dim));
                for row in table.chunks_exact(dim.max(1)) {
                    rows.extend_from_slice(row);
                    rows.resize(rows.len().next_multiple_of(stride(dim)), 0.0);
                }
                GpuPositions::Added(self.floats("positions", &rows)?)
            }
            PositionTable::Rotary { cos, sin } => {
                let pairs: Vec<f32> = cos.iter().zip(&sin).flat_map(|(c, s)| [*c, *s]).collect();
                GpuPositions::Rotary(self.floats("rotary angles", &pairs)?)
            }
        })
    }

    fn floats(&self, what: &str, values: &[f32]) -> Result<Slice> {
        self.gpu.upload(what, bytemuck::cast_slice(values))
    }

    fn upload_norm(&self, norm: &Norm) -> Result<Slice> {
        self.floats("a layer norm", &packed_norm(norm))
    }

    fn place(&self, linear: Linear<Uploaded>) -> Result<GpuLinear> {
        Ok(GpuLinear {
            bias: match linear.bias.is_empty() {
                true => None,
                false => Some(self.floats("a bias", &linear.bias)?),
            },
            matrix: linear.matrix.matrix,
        })
    }

    /// See [`RouteWeights`]; `owed` is the norm that the layer before leaves to be done.
    fn route(
        &self,
        layer: usize,
        router: &Router<Uploaded>,
        owed: Option<&Norm>,
        order: NormOrder,
        dim: usize,
    ) -> Result<RouteWeights> {
        let mut packed = vec![0.0; super::buffer::ALIGN];
        packed[0] = layer as f32;
        let norm = (order == NormOrder::Post).then(|| {
            let at = packed.len() as u32;
            // The first layer is owed nothing, but all share one kernel.
            match owed {
                Some(norm) => packed.extend_from_slice(&packed_norm(norm)),
                None => packed.resize(packed.len() + 2 * stride(dim), 0.0),
            }
            at
        });
        let mut dense =
            |linear: &Linear<Uploaded>, inputs: usize| {
                let at = packed.len() as u32;
                let values = &linear.matrix.values;
                let outputs = values.len() / inputs.max(1);
                // Neighbouring lanes make neighbouring outputs, and so read neighbouring weights.
                packed.extend((0..inputs).flat_map(|input| {
                    (0..outputs).map(move |output| values[output * inputs + input])
                }));
                packed.extend_from_slice(&linear.bias[..outputs.min(linear.bias.len())]);
                Dense {
                    at,
                    inputs: inputs as u32,
                    outputs: outputs as u32,
                }
            };
        let pooler = router.pooler.as_ref().map(|pooler| dense(pooler, dim));
        let pooled = pooler.map_or(dim, |pooler| pooler.outputs as usize);
        let hidden = dense(&router.hidden, pooled);
        let classes = dense(&router.output, hidden.outputs as usize);
        Ok(RouteWeights {
            slice: self.floats("a router", &packed)?,
            norm,
            pooler,
            hidden,
            classes,
        })
    }
}

/// Gain, then bias, each padded.
fn packed_norm(norm: &Norm) -> Vec<f32> {
    let width = stride(norm.gain.len());
    let mut values = norm.gain.clone();
    values.resize(width, 0.0);
    values.extend_from_slice(&norm.bias);
    values.resize(2 * width, 0.0);
    values
}
