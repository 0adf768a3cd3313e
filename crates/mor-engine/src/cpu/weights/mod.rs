//! Weights, packed for the kernels and shared by all decoders.

use std::path::Path;

use mor_config::{ModelConfig, Weights, check_tensors};

use crate::Result;
use crate::cpu::kernels::matrix::{Matrix, Packing};
use crate::cpu::kernels::{Kernels, Linear, widens_f16};
use crate::model::{
    self, Gate, Norm, NormOrder, Parts, PositionTable, Source, Stored, Tensor, TensorSource,
    WeightPrecision, head_name, random,
};
use mor_math::Isa;

mod bytes;
mod embedding;

use embedding::TokenEmbedding;

pub(crate) type Block = model::Block<Matrix>;
pub(crate) type Router = model::Router<Matrix>;
pub(crate) type Layer = model::Layer<Matrix>;

/// How a model is prepared.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// How weights are kept in memory.
    pub precision: WeightPrecision,
    /// Instruction set of the kernels; the best available one when `None`.
    pub isa: Option<Isa>,
}

/// A loaded model: immutable, and shared between decoders by `Arc`.
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) kernels: Kernels,
    isa: Isa,
    embedding: TokenEmbedding,
    pub(crate) positions: PositionTable,
    /// Follows the embedding in the technical model.
    embedding_norm: Option<Norm>,
    /// In the order in which a token meets them; the conversational model's shared block is the last.
    pub(crate) layers: Vec<Layer>,
    /// After each loop of a recursive model's core but the last possible one.
    pub(crate) gates: Vec<Gate>,
    /// Where the layer norms of every block stand.
    pub(crate) norm_order: NormOrder,
    /// Steps for each class of a router.
    pub(crate) class_steps: Vec<u8>,
    pub(crate) final_norm: Norm,
    /// Output head: `[vocab, dim]`, the token table when tied.
    pub(crate) head: Linear,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("config", &self.config)
            .field("isa", &self.isa)
            .finish()
    }
}

impl Model {
    /// Loads `config.json` and `model.safetensors` from a model folder.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`], naming the file, what was found and what to do.
    #[cfg(feature = "fs")]
    pub fn load(dir: &Path) -> Result<Self> {
        Self::load_with(dir, LoadOptions::default())
    }

    /// As [`Self::load`], with options.
    ///
    /// # Errors
    /// As for [`Self::load`].
    #[cfg(feature = "fs")]
    pub fn load_with(dir: &Path, options: LoadOptions) -> Result<Self> {
        let config = ModelConfig::from_dir(dir)?;
        let weights = Weights::open(&dir.join(mor_config::WEIGHTS_FILE))?;
        Self::from_parts_with(config, &weights, options)
    }

    /// Builds a model from a configuration and its tensors.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`] when they do not fit each other, or a tensor holds a number that is not finite.
    pub fn from_parts(config: ModelConfig, weights: Weights) -> Result<Self> {
        Self::from_parts_with(config, &weights, LoadOptions::default())
    }

    /// As [`Self::from_parts`], with options; the weights' bytes are only read.
    ///
    /// # Errors
    /// As for [`Self::from_parts`].
    pub fn from_parts_with(
        config: ModelConfig,
        weights: &Weights,
        options: LoadOptions,
    ) -> Result<Self> {
        config.validate(Path::new(mor_config::CONFIG_FILE))?;
        check_tensors(&config, weights)?;
        Self::build(config, options, &|name| Tensor::open(weights, name))
    }

    /// A model with random weights, the same for the same seed: for benchmarks and tests.
    ///
    /// # Errors
    /// [`crate::EngineError::Config`] when the configuration is out of range.
    pub fn random(config: ModelConfig, seed: u64, options: LoadOptions) -> Result<Self> {
        config.validate(Path::new("configuration"))?;
        let specs: std::collections::HashMap<_, _> = config
            .tensors()
            .into_iter()
            .map(|spec| (spec.name, spec.shape))
            .collect();
        Self::build(config, options, &|name| {
            let shape = specs.get(name).map_or(&[][..], Vec::as_slice);
            Ok(Tensor::made(random::tensor(name, shape, seed)))
        })
    }

    fn build<'a>(
        config: ModelConfig,
        options: LoadOptions,
        tensor: &'a TensorSource<'a>,
    ) -> Result<Self> {
        let isa = options.isa.unwrap_or_else(Isa::best);
        let source = CpuSource {
            tensor,
            precision: options.precision,
            widens_f16: widens_f16(isa),
        };
        let Parts {
            table,
            embedding_norm,
            layers,
            gates,
            norm_order,
            final_norm,
        } = Parts::load(&config, &source)?;
        let head = head_name(&config, table);
        let class_steps = config.routing.steps_of_classes();
        Ok(Self {
            embedding: TokenEmbedding::load(&config, &source, table)?,
            positions: PositionTable::load(&config, &source)?,
            embedding_norm: embedding_norm.map(|name| source.norm(name)).transpose()?,
            layers,
            gates,
            norm_order,
            // The configuration allows no more than 64 steps.
            class_steps: class_steps.into_iter().map(|steps| steps as u8).collect(),
            final_norm: source.norm(final_norm)?,
            head: Linear {
                matrix: source.matrix(&[&head], config.hidden_size)?,
                bias: Vec::new(),
            },
            kernels: Kernels::new(isa),
            isa,
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The instruction set of its kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of matrices that decoding one token reads at a forced depth: `depth` steps of every recursive
    /// layer or of the shared block. A block's matrices count once per step, the token table once for the head.
    pub fn bytes_per_token(&self, depth: usize) -> usize {
        let layers = self.layers.iter();
        let steps = layers.map(|layer| layer.bytes_read(if layer.recurs { depth } else { 1 }));
        steps.sum::<usize>() + self.head.matrix.bytes()
    }

    /// As [`Self::bytes_per_token`], for the steps that each recursive layer took; with the routers' matrices
    /// where they decided.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn bytes_read(&self, steps: &[u8], routed: bool) -> usize {
        let mut steps = steps.iter();
        let mut of_core = None;
        let layers = self.layers.iter().map(|layer| {
            let mut next = || steps.next().copied().map_or(0, usize::from);
            let depth = match (layer.recurs, self.config.architecture) {
                // All blocks of the core loop equally often.
                (true, mor_config::Architecture::Recursive) => *of_core.get_or_insert_with(next),
                (true, _) => next(),
                (false, _) => 1,
            };
            let router = layer.router.as_ref().filter(|_| routed);
            layer.bytes_read(depth) + router.map_or(0, Router::bytes)
        });
        layers.sum::<usize>() + self.head.matrix.bytes()
    }

    /// Bytes of all matrices and token tables in memory.
    pub fn weight_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        layers + self.head.matrix.bytes() + self.embedding.bytes()
    }

    /// Writes the first layer's input for a token at a position, `[dim, padded]`.
    pub(crate) fn embed(&self, id: u32, position: usize, out: &mut [f32]) {
        let dim = self.config.hidden_size;
        self.embedding.copy(&self.kernels, &self.head, id, out);
        let row = &mut out[..dim];
        if let PositionTable::Added(table) = &self.positions {
            for (x, p) in row.iter_mut().zip(&table[position * dim..]) {
                *x += p;
            }
        }
        if let Some(norm) = &self.embedding_norm {
            self.kernels.norm_row(row, norm, self.config.layer_norm_eps);
        }
    }
}

/// Packs for the CPU's kernels.
struct CpuSource<'a> {
    tensor: &'a TensorSource<'a>,
    precision: WeightPrecision,
    widens_f16: bool,
}

impl Source for CpuSource<'_> {
    type Matrix = Matrix;

    fn matrix(&self, names: &[&str], cols: usize) -> Result<Matrix> {
        let parts: Result<Vec<_>> = names.iter().map(|name| (self.tensor)(name)).collect();
        let parts = parts?;
        let all = |stored| parts.iter().all(|part| part.stored() == stored);
        let packing = match self.precision {
            WeightPrecision::F16 => Packing::F16,
            WeightPrecision::Q8 => Packing::Q8,
            WeightPrecision::AsStored if all(Stored::Q8) => Packing::Q8,
            // Without such an instruction, widening costs more than reading.
            WeightPrecision::AsStored if all(Stored::F16) && self.widens_f16 => Packing::F16,
            WeightPrecision::AsStored | WeightPrecision::F32 => Packing::F32,
        };
        Matrix::pack(&parts, cols, packing)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        (self.tensor)(name)?.into_f32()
    }
}

impl CpuSource<'_> {
    /// A table `[_, cols]` of which single rows are read: never larger than it is stored.
    fn table(&self, name: &str, cols: usize) -> Result<Matrix> {
        let tensor = (self.tensor)(name)?;
        let packing = match (tensor.stored(), self.precision) {
            (Stored::Q8, _) | (_, WeightPrecision::Q8) => Packing::Q8,
            (Stored::F16, _) | (_, WeightPrecision::F16) => Packing::F16,
            (Stored::F32, WeightPrecision::AsStored | WeightPrecision::F32) => Packing::F32,
        };
        Matrix::pack(&[tensor], cols, packing)
    }
}
