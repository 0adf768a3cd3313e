//! The whole model: build, load, run, score.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor};
use mor_config::{Architecture, Depth, ModelConfig, WEIGHTS_FILE, Weights, check_tensors};
use mor_kernels::MatmulPrecision;

use crate::body::{Body, Conversational, Run};
use crate::builder::{Builder, Source};
use crate::init::initial_values;
use crate::mode::Mode;
use crate::{Embeddings, LayerNorm, ModelError, Table, ops};

/// Each routed step adds this much to the computation loss.
const STEP_COST: f32 = 0.1;

/// How to run a model.
#[derive(Debug, Clone, Default)]
pub struct ForwardOptions {
    /// `[batch, seq]`, true at the keys that may be seen; routers pool over them too, where they leave out pads.
    /// Without one, all but pads may.
    pub attention_mask: Option<Tensor<2, Bool>>,
    /// Depth of every layer, or of the shared block.
    pub depth: Depth,
    /// Depths of their own for each layer, or the shared block, and row, `[layers][batch]`, in place of `depth`; in a recursive
    /// model also for each position, `[1][batch · seq]`.
    pub steps: Option<Vec<Vec<usize>>>,
    /// What the gates of a recursive model must exceed for a position to go on, in place of what `depth` stands for.
    pub gate_threshold: Option<f32>,
    /// Whether dropout is active.
    pub training: bool,
    /// Whether the routers of a technical model get a gradient: in the backward pass, what a step changes is weighted
    /// by the probability of taking it. While training, depths are then drawn by their probabilities.
    pub straight_through: bool,
    /// Whether activations are f16, from the embeddings on. Weights are met in f16 and stay as they are, and so do
    /// their gradients; norms, means and losses are computed in f32. For devices where [`crate::supports_half`].
    pub half: bool,
    /// Precision of matrix products on the CPU, those of the backward pass and of the loss included. Good enough to train
    /// with, not to measure with.
    pub matmul: MatmulPrecision,
}

/// What a model computes for a batch.
#[derive(Debug, Clone)]
pub struct Output {
    /// After the final norm, `[batch, seq, dim]`; [`Model::logits`] takes it.
    pub hidden: Tensor<3>,
    /// Precision of the products that made it, and of those that [`Model::objective`] makes of it.
    pub matmul: MatmulPrecision,
    /// Steps taken by each layer of a technical model, or by the shared block of a conversational one, which is one
    /// entry: `[layers][batch]`, or under prefix pooling `[layers][batch · seq]`, row by row. Loops of each position of a
    /// recursive model, `[1][batch · seq]`.
    pub steps: Vec<Vec<usize>>,
    /// For each router that decided, the logits of its classes: `[batch, 1, classes]`, or under prefix pooling
    /// `[batch, seq, classes]`.
    pub router_logits: Vec<Tensor<3>>,
    /// 0.1 for each step of each layer and row; for a row whose positions differ, for their mean. No gradient flows
    /// through it.
    pub computation_loss: f32,
    /// The same by the routers' probabilities, `[1]`, with a gradient; where routers get one.
    pub expected_computation_loss: Option<Tensor<1>>,
}

/// A mixture-of-recursions model of any family.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use mor_config::Preset;
/// use mor_model::{ForwardOptions, Model, RouterLoss};
///
/// let mut config = Preset::Technical10m.config();
/// (config.vocab_size, config.hidden_size, config.num_hidden_layers) = (64, 48, 1);
/// let device = Device::flex().autodiff();
/// let model = Model::new(&config, &device, 1)?;
///
/// let ids = Tensor::<2, Int>::from_data([[5, 6, 7], [8, 9, 10]], &device);
/// let output = model.forward(ids, &ForwardOptions::default())?;
/// assert_eq!(output.hidden.dims(), [2, 3, 48]);
///
/// // The token that follows each position; -100 is not learned.
/// let targets = [6, 7, -100, 9, 10, -100];
/// let losses = model.objective(&output, &targets, -100, &RouterLoss::default())?;
/// // Random weights know nothing: about as many nats as a choice among 64 tokens.
/// let loss = losses.language.clone().into_scalar::<f32>();
/// assert!((loss - 64_f32.ln()).abs() < 1.0, "{loss}");
/// let _gradients = losses.total.backward();
/// # Ok::<(), mor_model::ModelError>(())
/// ```
#[derive(Module, Debug)]
pub struct Model {
    /// Token ids to the residual stream.
    pub embeddings: Embeddings,
    /// What lies between; the families differ here only.
    pub body: Body,
    /// Before the head.
    pub final_norm: LayerNorm,
    /// Output head of an untied model, `[vocab, dim]`; a tied one uses the token embedding.
    pub lm_head: Option<Table>,
    /// What the model is made of.
    #[module(skip)]
    config: ModelConfig,
}

impl Model {
    /// A model with random weights, a pure function of `config` and `seed`: linear layers N(0, 1/in), those that
    /// write to the residual stream shrunk by the root of the number of writes, step projections the identity,
    /// tables N(0, 0.02²).
    ///
    /// # Errors
    /// [`ModelError::Config`] when the configuration is invalid.
    pub fn new(config: &ModelConfig, device: &Device, seed: u64) -> Result<Self, ModelError> {
        config.validate(Path::new("the model configuration"))?;
        Self::build(config, device, &mut |spec| {
            Ok(initial_values(config, spec, seed))
        })
    }

    /// The model in a folder with `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// [`ModelError::Config`] when a file is missing, damaged, or does not fit the other.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, ModelError> {
        let config = ModelConfig::from_dir(dir)?;
        let weights = Weights::open(&dir.join(WEIGHTS_FILE))?;
        Self::from_weights(&config, &weights, device)
    }

    /// A model with the weights of a file.
    ///
    /// # Errors
    /// [`ModelError::Config`] when the weights do not fit the configuration.
    pub fn from_weights(
        config: &ModelConfig,
        weights: &Weights,
        device: &Device,
    ) -> Result<Self, ModelError> {
        config.validate(weights.path())?;
        check_tensors(config, weights)?;
        Self::build(config, device, &mut |spec| Ok(weights.to_f32(&spec.name)?))
    }

    fn build<'a>(
        config: &'a ModelConfig,
        device: &'a Device,
        source: &'a mut Source<'a>,
    ) -> Result<Self, ModelError> {
        let mut tensors = Builder::new(config, source, device);
        let layers = 0..config.num_hidden_layers;
        let (embeddings, body, final_norm) = match config.architecture {
            Architecture::Technical => (
                tensors.embeddings("embeddings.token_embedding")?,
                Body::Technical(
                    layers
                        .map(|layer| tensors.layer(layer))
                        .collect::<Result<_, _>>()?,
                ),
                "final_norm",
            ),
            Architecture::Conversational => (
                tensors.embeddings("embed")?,
                Body::Conversational(Conversational {
                    layers: layers
                        .map(|layer| tensors.block(&format!("layers.{layer}")))
                        .collect::<Result<_, _>>()?,
                    router: tensors
                        .router(Some("router.pooler"), ["router.head.0", "router.head.3"])?,
                    shared: tensors.block("rec_layer.block")?,
                }),
                "ln_f",
            ),
            Architecture::Recursive => (
                tensors.embeddings("embed")?,
                Body::Recursive(tensors.recursive()?),
                "final_norm",
            ),
        };
        Ok(Self {
            embeddings,
            body,
            final_norm: tensors.norm(final_norm)?,
            lm_head: if config.tie_word_embeddings {
                None
            } else {
                Some(tensors.table("lm_head")?)
            },
            config: config.clone(),
        })
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Runs the model on `ids: [batch, seq]`.
    ///
    /// # Errors
    /// [`ModelError`] when the input is empty or too long, holds an unknown id (checked on the CPU), has a mask of
    /// another shape, or asks for more steps than the model has.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        options: &ForwardOptions,
    ) -> Result<Output, ModelError> {
        let [batch, seq] = ids.dims();
        if batch == 0 || seq == 0 {
            return Err(ModelError::Empty);
        }
        if seq > self.config.max_position_embeddings {
            return Err(ModelError::TooLong {
                found: seq,
                limit: self.config.max_position_embeddings,
            });
        }
        let fixed = match &options.steps {
            Some(steps) => Some(self.check_steps(steps, [batch, seq])?),
            None => self
                .config
                .resolve_depth(options.depth)?
                .map(|depth| vec![vec![depth; batch]; self.config.routed_depths()]),
        };
        let key_mask = self.key_mask(&ids, options)?;
        let mode = Mode {
            training: options.training,
            matmul: options.matmul,
        };
        let mut x = self.embeddings.forward(ids, mode);
        if options.half {
            x = x.cast(FloatDType::F16);
        }
        let run = Run {
            key_mask: key_mask.as_ref(),
            fixed: fixed.as_deref(),
            gate_threshold: options
                .gate_threshold
                .unwrap_or_else(|| self.config.gate_threshold(options.depth)),
            straight_through: options.straight_through,
            mode,
        };
        let routed = self.body.forward(x, run);
        let cost = |steps: &Vec<usize>| {
            let positions = (steps.len() / batch).max(1);
            steps.iter().sum::<usize>() as f32 / positions as f32
        };
        let expected = routed.survival.into_iter().map(|survival| {
            let [_, positions, _] = survival.dims();
            // A loss among losses, which are f32: Burn would add the two without a look at what they are.
            survival.cast(FloatDType::F32).sum() * (STEP_COST / positions as f32)
        });
        Ok(Output {
            expected_computation_loss: expected.reduce(|sum, cost| sum + cost),
            hidden: self.final_norm.forward(routed.x),
            matmul: options.matmul,
            computation_loss: STEP_COST * routed.steps.iter().map(cost).sum::<f32>(),
            steps: routed.steps,
            router_logits: routed.router_logits,
        })
    }

    /// Depths that the caller chose.
    fn check_steps(
        &self,
        steps: &[Vec<usize>],
        [batch, seq]: [usize; 2],
    ) -> Result<Vec<Vec<usize>>, ModelError> {
        let layers = self.config.routed_depths();
        let by_position = self.config.architecture == Architecture::Recursive;
        let each = |found: usize| found == batch || by_position && found == batch * seq;
        let fits = steps.len() == layers && steps.iter().all(|steps| each(steps.len()));
        if !fits {
            return Err(ModelError::Shape {
                what: "the depths",
                found: vec![steps.len(), steps.first().map_or(0, Vec::len)],
                expected: vec![layers, batch],
            });
        }
        let depths = || steps.iter().flatten().copied();
        for extreme in [depths().max(), depths().min()].into_iter().flatten() {
            self.config.resolve_depth(Depth::Forced(extreme))?;
        }
        Ok(steps.to_vec())
    }

    /// The keys that may be seen, `[batch, seq]`; `None` when that is known to be all of them.
    pub(crate) fn key_mask(
        &self,
        ids: &Tensor<2, Int>,
        options: &ForwardOptions,
    ) -> Result<Option<Tensor<2, Bool>>, ModelError> {
        let pad = i64::from(self.config.pad_token_id);
        if let Some(mask) = &options.attention_mask
            && mask.dims() != ids.dims()
        {
            return Err(ModelError::Shape {
                what: "the attention mask",
                found: mask.dims().into(),
                expected: ids.dims().into(),
            });
        }
        // On a GPU a look at the ids would wait for everything queued before.
        if ops::is_cpu(&ids.device()) {
            let data = ids.to_data().convert::<i64>();
            let values = data.as_slice::<i64>().unwrap_or_default();
            let vocab = self.config.vocab_size;
            if let Some(&found) = values.iter().find(|id| **id < 0 || **id >= vocab as i64) {
                return Err(ModelError::UnknownToken {
                    found,
                    vocab_size: vocab,
                });
            }
            if options.attention_mask.is_none() && !values.contains(&pad) {
                return Ok(None);
            }
        }
        Ok(Some(match &options.attention_mask {
            Some(mask) => mask.clone(),
            None => ids.clone().not_equal_elem(pad),
        }))
    }

    /// Logits of `hidden: [batch, seq, dim]`, `[batch, seq, vocab]`.
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        ops::linear(MatmulPrecision::F32, hidden, self.head(), None)
    }

    /// Mean cross-entropy in nats, `[1]`, of `hidden: [batch, seq, dim]` against `targets: [batch, seq]`, over the
    /// targets that are not `ignore`; zero when there is none. Nothing of size `[batch, seq, vocab]` is ever made on
    /// the CPU.
    ///
    /// # Errors
    /// [`ModelError::Shape`] when the shapes differ.
    pub fn loss(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        ignore: i64,
    ) -> Result<Tensor<1>, ModelError> {
        Ok(self
            .mean_and_losses(MatmulPrecision::F32, hidden, targets, ignore)?
            .0)
    }

    /// Cross-entropy in nats of each position, `batch · seq` numbers, zero where the target is `ignore`; no
    /// gradient. Arguments as in [`Self::loss`].
    ///
    /// # Errors
    /// [`ModelError::Shape`] when the shapes differ.
    pub fn losses(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        ignore: i64,
    ) -> Result<Vec<f32>, ModelError> {
        let (hidden, targets) = rows(hidden, targets)?;
        let (hidden, head) = (hidden.without_autodiff(), self.head().without_autodiff());
        let (_, losses) =
            ops::linear_cross_entropy(MatmulPrecision::F32, hidden, head, targets, ignore);
        Ok(losses.into_values())
    }

    /// [`Self::loss`] and the losses it is the mean of.
    pub(crate) fn mean_and_losses(
        &self,
        matmul: MatmulPrecision,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        ignore: i64,
    ) -> Result<(Tensor<1>, ops::RowLosses), ModelError> {
        let (hidden, targets) = rows(hidden, targets)?;
        Ok(ops::linear_cross_entropy(
            matmul,
            hidden,
            self.head(),
            targets,
            ignore,
        ))
    }

    /// Weight of the output head, `[vocab, dim]`.
    fn head(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            // A tied model has one table of full width: the configuration allows no other.
            None => self.embeddings.token_embedding.first.table.weight.val(),
        }
    }
}

fn rows(
    hidden: Tensor<3>,
    targets: Tensor<2, Int>,
) -> Result<(Tensor<2>, Tensor<1, Int>), ModelError> {
    let [batch, seq, dim] = hidden.dims();
    if targets.dims() != [batch, seq] {
        return Err(ModelError::Shape {
            what: "the targets",
            found: targets.dims().into(),
            expected: vec![batch, seq],
        });
    }
    let count = batch * seq;
    Ok((hidden.reshape([count, dim]), targets.reshape([count])))
}
