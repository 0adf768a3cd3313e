//! Weights, packed for the kernels and shared by all decoders.

use std::path::Path;

use mor_config::{ModelConfig, Positions, RouterKind, Weights, check_tensors};

use crate::cpu::matrix::{Matrix, Packing, padded};
use crate::cpu::tensor::{Stored, Tensor};
use crate::cpu::{Isa, Kernels};
use crate::{Result, random};

/// How a model is prepared.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// How weights are kept in memory.
    pub precision: WeightPrecision,
    /// Instruction set of the kernels; the best available one when `None`.
    pub isa: Option<Isa>,
}

/// How weights are kept in memory. Arithmetic is f32, except that products with int8 matrices round their inputs to int8
/// too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightPrecision {
    /// Matrices that are int8 on disk stay int8, and those that are f16 stay f16 where the processor widens them on
    /// the fly: the same results from half the memory traffic.
    #[default]
    AsStored,
    /// Everything is widened to f32 when loading.
    F32,
    /// Matrices are rounded to f16, whatever they were.
    F16,
    /// Matrices are rounded to int8, with a scale for every 32 columns of a row, unless they are int8 already.
    Q8,
}

/// A linear layer; the bias is filled up to whole panels, or empty.
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Vec<f32>,
}

/// Gain and bias of a layer norm.
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// A router: two linear layers with GELU between.
pub(crate) struct Router {
    pub(crate) hidden: Linear,
    pub(crate) output: Linear,
}

/// One layer; applied a routed number of times.
pub(crate) struct Layer {
    pub(crate) router: Option<Router>,
    pub(crate) step_projections: Vec<Linear>,
    /// Query, key and value projections, one below the other: `[3 dim, dim]`.
    pub(crate) qkv: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) norm1: Norm,
    pub(crate) linear1: Linear,
    pub(crate) linear2: Linear,
    pub(crate) norm2: Norm,
}

impl Layer {
    /// Bytes of the matrices that every step uses.
    fn shared_bytes(&self) -> usize {
        let shared = [
            &self.qkv,
            &self.attention_output,
            &self.linear1,
            &self.linear2,
        ];
        shared.iter().map(|linear| linear.matrix.bytes()).sum()
    }

    /// Bytes of the matrices that `steps` steps read.
    fn bytes_read(&self, steps: usize) -> usize {
        let projections = self.step_projections.iter().take(steps);
        projections
            .map(|linear| self.shared_bytes() + linear.matrix.bytes())
            .sum()
    }
}

/// What is added to a token's embedding, or done to queries and keys, for its position.
pub(crate) enum PositionTable {
    /// `[context, dim]`, added.
    Added(Vec<f32>),
    /// Cosines and sines, each `[context, head_dim / 2]`.
    Rotary { cos: Vec<f32>, sin: Vec<f32> },
}

/// A loaded model: immutable, and shared between decoders by `Arc`.
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) kernels: Kernels,
    isa: Isa,
    /// Token table where the head is not tied to it.
    pub(crate) embedding: Option<Matrix>,
    pub(crate) positions: PositionTable,
    pub(crate) embedding_norm: Norm,
    pub(crate) layers: Vec<Layer>,
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
    /// [`crate::EngineError::Config`] when they do not fit each other.
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
        let isa = options.isa.unwrap_or(Isa::available()[0]);
        let source = Source {
            tensor,
            precision: options.precision,
            widens_f16: isa.widens_f16(),
        };
        let dim = config.hidden_size;

        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(source.layer(&config, index)?);
        }
        let tied = config.tie_word_embeddings;
        let table = "embeddings.token_embedding.weight";
        let head = if tied { table } else { "lm_head.weight" };
        Ok(Self {
            embedding: if tied {
                None
            } else {
                Some(source.table(table, dim)?)
            },
            positions: position_table(&config, &source)?,
            embedding_norm: source.norm("embeddings.layer_norm")?,
            layers,
            final_norm: source.norm("final_norm")?,
            head: Linear {
                matrix: source.matrix(&[head], dim)?,
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

    /// Bytes of weights that decoding one token reads when every layer takes `depth` steps. A
    /// layer's weights count once per step, the token table once for the head.
    pub fn bytes_per_token(&self, depth: usize) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.bytes_read(depth))
            .sum::<usize>()
            + self.head.matrix.bytes()
    }

    /// As [`Self::bytes_per_token`], for each layer's own number of steps.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn bytes_read(&self, steps: &[u8]) -> usize {
        let layers = self.layers.iter().zip(steps);
        layers
            .map(|(layer, steps)| layer.bytes_read(usize::from(*steps)))
            .sum::<usize>()
            + self.head.matrix.bytes()
    }

    /// Bytes of all matrices in memory.
    pub fn weight_bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| {
            let projections = layer
                .step_projections
                .iter()
                .map(|linear| linear.matrix.bytes());
            layer.shared_bytes() + projections.sum::<usize>()
        });
        let table = self.embedding.as_ref().map_or(0, Matrix::bytes);
        layers.sum::<usize>() + self.head.matrix.bytes() + table
    }

    /// Copies a token's embedding `[dim]`.
    pub(crate) fn embed(&self, id: u32, out: &mut [f32]) {
        let table = self.embedding.as_ref().unwrap_or(&self.head.matrix);
        table.copy_row(id as usize, out);
    }
}

/// Gives a tensor by name.
type TensorSource<'a> = dyn Fn(&str) -> Result<Tensor<'a>> + 'a;

/// Where tensors come from, and how they are packed.
struct Source<'a> {
    tensor: &'a TensorSource<'a>,
    precision: WeightPrecision,
    widens_f16: bool,
}

impl Source<'_> {
    /// Matrices `[_, cols]`, one below the other.
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
        Ok(Matrix::pack(&parts, cols, packing))
    }

    /// A table `[_, cols]` of which single rows are read: never larger than it is stored.
    fn table(&self, name: &str, cols: usize) -> Result<Matrix> {
        let tensor = (self.tensor)(name)?;
        let packing = match (tensor.stored(), self.precision) {
            (Stored::Q8, _) | (_, WeightPrecision::Q8) => Packing::Q8,
            (Stored::F16, _) | (_, WeightPrecision::F16) => Packing::F16,
            (Stored::F32, WeightPrecision::AsStored | WeightPrecision::F32) => Packing::F32,
        };
        Ok(Matrix::pack(&[tensor], cols, packing))
    }

    /// A tensor's values.
    fn values(&self, name: &str) -> Result<Vec<f32>> {
        (self.tensor)(name).map(Tensor::into_f32)
    }

    fn linear(&self, name: &str, cols: usize) -> Result<Linear> {
        let matrix = self.matrix(&[&format!("{name}.weight")], cols)?;
        let mut bias = self.values(&format!("{name}.bias"))?;
        bias.resize(padded(matrix.rows()), 0.0);
        Ok(Linear { matrix, bias })
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let gain = self.values(&format!("{name}.weight"))?;
        let bias = self.values(&format!("{name}.bias"))?;
        Ok(Norm { gain, bias })
    }

    fn layer(&self, config: &ModelConfig, index: usize) -> Result<Layer> {
        let dim = config.hidden_size;
        let at = |part: &str| format!("layers.{index}.{part}");
        let router = match config.routing.kind {
            RouterKind::Fixed => None,
            RouterKind::Adaptive => Some(Router {
                hidden: self.linear(&at("router.complexity_classifier.0"), dim)?,
                output: self.linear(
                    &at("router.complexity_classifier.3"),
                    config.router_hidden(),
                )?,
            }),
        };
        let mut step_projections = Vec::with_capacity(config.routing.max_steps);
        for step in 0..config.routing.max_steps {
            step_projections.push(self.linear(&at(&format!("step_projections.{step}")), dim)?);
        }
        let qkv = ["w_q", "w_k", "w_v"].map(|part| at(&format!("attention.{part}.weight")));
        let qkv = qkv.each_ref().map(String::as_str);
        Ok(Layer {
            router,
            step_projections,
            qkv: Linear {
                matrix: self.matrix(&qkv, dim)?,
                bias: Vec::new(),
            },
            attention_output: self.linear(&at("attention.w_o"), dim)?,
            norm1: self.norm(&at("norm1"))?,
            linear1: self.linear(&at("feedforward.linear1"), dim)?,
            linear2: self.linear(&at("feedforward.linear2"), config.intermediate_size)?,
            norm2: self.norm(&at("norm2"))?,
        })
    }
}

fn position_table(config: &ModelConfig, source: &Source<'_>) -> Result<PositionTable> {
    let context = config.max_position_embeddings;
    // Angles in f64: at long contexts f32 would be off by more than the tolerance of the goldens.
    let angles = |width: usize, base: f64| {
        let pairs = width.div_ceil(2);
        (0..context * pairs).map(move |i| {
            let (position, pair) = ((i / pairs) as f64, (i % pairs) as f64);
            position * base.powf(-2.0 * pair / width as f64)
        })
    };
    match config.positions {
        Positions::Learned => {
            let name = "embeddings.pos_encoding.pos_embedding.weight";
            Ok(PositionTable::Added(source.values(name)?))
        }
        Positions::Sinusoidal => {
            let dim = config.hidden_size;
            let pairs = dim.div_ceil(2);
            let mut table = Vec::with_capacity(context * dim);
            for (i, angle) in angles(dim, 10_000.0).enumerate() {
                table.push(angle.sin() as f32);
                // An odd width ends on a sine.
                if 2 * (i % pairs) + 1 < dim {
                    table.push(angle.cos() as f32);
                }
            }
            Ok(PositionTable::Added(table))
        }
        Positions::Rotary => {
            let all = || angles(config.head_dim(), f64::from(config.rope_theta));
            Ok(PositionTable::Rotary {
                cos: all().map(|angle| angle.cos() as f32).collect(),
                sin: all().map(|angle| angle.sin() as f32).collect(),
            })
        }
    }
}
