//! A model's weights on a GPU.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use mor_config::{Architecture, ModelConfig, Weights, WeightsHeader, check_tensors};
use safetensors::Dtype;

use super::attention;
use super::parts::{
    GpuBlock, GpuLayer, GpuMatrix, GpuPositions, GpuRouter, RouteWeights, RouterLayout,
};
use super::upload::GpuSource;
use crate::gpu::device::{Gpu, Slice, at_least};
use crate::model::{
    NormOrder, Parts, Source, Stored, Tensor, TensorSource, WeightPrecision, head_name, random,
};
use crate::{EngineError, Result};

/// A model on a GPU: immutable, and shared between decoders by `Arc`.
pub struct GpuModel {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) config: ModelConfig,
    pub(crate) table: GpuMatrix,
    pub(crate) positions: GpuPositions,
    pub(crate) embedding_norm: Option<Slice>,
    pub(crate) layers: Vec<GpuLayer>,
    pub(crate) routers: Option<RouteWeights>,
    pub(crate) norm_order: NormOrder,
    pub(crate) class_steps: Vec<u32>,
    pub(crate) final_norm: Slice,
    pub(crate) head: GpuMatrix,
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
        let specs: HashMap<_, _> = tensors.map(|spec| (spec.name, spec.shape)).collect();
        let tensor = |name: &str| {
            let shape = specs.get(name).map_or(&[][..], Vec::as_slice);
            Ok(Tensor::made(random::tensor(name, shape, seed)))
        };
        Self::build(gpu, config, precision, &tensor).await
    }

    /// A model without weights, of tensors stored as a header says: enough to compile its kernels, and for nothing else.
    /// Nothing is allocated in the sizes that the header names, since nobody has seen the bytes behind them.
    ///
    /// # Errors
    /// [`crate::EngineError::GpuLimit`] when the GPU could not hold one of them.
    pub(crate) fn outline(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        header: &WeightsHeader,
    ) -> Result<Self> {
        let len = |shape: &[usize]| shape.iter().fold(1, |len: usize, n| len.saturating_mul(*n));
        let lengths: HashMap<_, usize> = config
            .tensors()
            .into_iter()
            .map(|spec| (spec.name, len(&spec.shape)))
            .collect();
        let tensor = |name: &str| {
            let stored = match header.dtype(name) {
                Some(Dtype::I8) => Stored::Q8,
                Some(Dtype::F16) => Stored::F16,
                _ => Stored::F32,
            };
            let len = lengths.get(name).copied().unwrap_or(0);
            Ok(Tensor::zeros(stored, len))
        };
        let blank = gpu.storage("nothing", 1)?;
        let precision = WeightPrecision::AsStored;
        Self::place(gpu, config, precision, &tensor, Some(blank))
    }

    pub(crate) async fn build<'a>(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        precision: WeightPrecision,
        tensor: &'a TensorSource<'a>,
    ) -> Result<Self> {
        let device = Arc::clone(&gpu);
        device
            .allocate("the model's weights", || {
                Self::place(gpu, config, precision, tensor, None)
            })
            .await
    }

    fn place<'a>(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        precision: WeightPrecision,
        tensor: &'a TensorSource<'a>,
        blank: Option<Slice>,
    ) -> Result<Self> {
        let source = GpuSource {
            gpu: &gpu,
            tensor,
            precision,
            blank,
        };
        if config.architecture == Architecture::Recursive {
            return Err(EngineError::OnCpuOnly {
                family: config.architecture.as_str(),
            });
        }
        let Parts {
            table: table_name,
            embedding_norm,
            layers,
            gates: _,
            norm_order,
            final_norm,
        } = Parts::load(&config, &source)?;
        let dim = config.hidden_size;
        at_least(
            gpu.description(),
            &format!(
                "attention with heads of {} values, in bytes of shared memory,",
                config.head_dim()
            ),
            attention(&config, false).shared_bytes(gpu.variant()),
            gpu.limits.max_compute_workgroup_storage_size,
        )?;
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
        let mut packed = Vec::new();
        let mut routed: Option<(Range<usize>, RouterLayout)> = None;
        for (index, layer) in layers.into_iter().enumerate() {
            if let (Some(router), true) = (&layer.router, layer.recurs) {
                let layout = source.route(router, owed.as_ref(), norm_order, dim, &mut packed);
                let first = routed.map_or(index, |(layers, _)| layers.start);
                routed = Some((first..index + 1, layout));
            }
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
        let routers = match routed {
            Some((layers, layout)) => Some(RouteWeights {
                slice: source.floats("the routers", &packed)?,
                layers,
                layout,
            }),
            None => None,
        };
        let class_steps = config.routing.steps_of_classes();
        let mut model = Self {
            class_steps: class_steps.into_iter().map(|steps| steps as u32).collect(),
            table,
            positions,
            embedding_norm,
            layers: placed,
            routers,
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

    /// Bytes of all matrices and token tables on the GPU, the routers' twice: for one row and for many.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn count_bytes(&self) -> u64 {
        let tied = self.table.slice == self.head.slice;
        let table = if tied { 0 } else { self.table.bytes() };
        let layers = self.layers.iter().map(|layer| {
            let projections = layer.projections.iter();
            let projections: u64 = projections.map(|linear| linear.matrix.bytes()).sum();
            let router = layer.router.as_ref().map_or(0, GpuRouter::bytes);
            layer.block.bytes() + projections + router
        });
        let routers = self.routers.as_ref().map_or(0, |all| all.slice.size);
        table + self.head.bytes() + routers + layers.sum::<u64>()
    }
}
