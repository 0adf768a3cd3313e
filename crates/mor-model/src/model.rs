//! The whole model: build, load, run, score.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};
use mor_config::{Depth, ModelConfig, Positions, WEIGHTS_FILE, Weights, check_tensors};

use crate::embedding::PositionTable;
use crate::init::initial_values;
use crate::parameters::{Builder, Source};
use crate::{Attention, Embeddings, FeedForward, Layer, ModelError, Router};
use crate::{LayerNorm, Table, ops};

/// Each routed step adds this much to the computation loss.
const STEP_COST: f32 = 0.1;

/// How to run a model.
#[derive(Debug, Clone, Default)]
pub struct ForwardOptions {
    /// `[batch, seq]`, true at the keys that may be seen. Without one, all but pads may.
    pub attention_mask: Option<Tensor<2, Bool>>,
    /// Depth of every layer.
    pub depth: Depth,
    /// Whether dropout is active.
    pub training: bool,
}

/// What a model computes for a batch.
#[derive(Debug, Clone)]
pub struct Output {
    /// After the final norm, `[batch, seq, dim]`; [`TechnicalModel::logits`] takes it.
    pub hidden: Tensor<3>,
    /// Steps taken, `[layers][batch]`.
    pub steps: Vec<Vec<usize>>,
    /// For each layer whose router decided, the probability of each depth,
    /// `[batch, max_steps + 1]`.
    pub router_probs: Vec<Tensor<2>>,
    /// 0.1 for each step of each layer and row. No gradient flows through it.
    pub computation_loss: f32,
}

/// The technical mixture-of-recursions model.
#[derive(Module, Debug)]
pub struct TechnicalModel {
    /// Token ids to the residual stream.
    pub embeddings: Embeddings,
    /// Recursive layers, first to last.
    pub layers: Vec<Layer>,
    /// Before the head.
    pub final_norm: LayerNorm,
    /// Output head of an untied model, `[vocab, dim]`; a tied one uses the token embedding.
    pub lm_head: Option<Table>,
    /// What the model is made of.
    #[module(skip)]
    config: ModelConfig,
}

impl TechnicalModel {
    /// A model with random weights, a pure function of `config` and `seed`: linear layers
    /// N(0, 1/in), those that write to the residual stream shrunk by √(2 · layers · max_steps),
    /// step projections the identity, tables N(0, 0.02²).
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
        config: &ModelConfig,
        device: &'a Device,
        source: &'a mut Source<'a>,
    ) -> Result<Self, ModelError> {
        let mut tensors = Builder::new(config, source, device);
        let token_embedding = tensors.table("embeddings.token_embedding")?;
        let pos_encoding = match config.positions {
            Positions::Learned => Some(PositionTable {
                pos_embedding: tensors.table("embeddings.pos_encoding.pos_embedding")?,
            }),
            Positions::Sinusoidal | Positions::Rotary => None,
        };
        let embeddings = Embeddings {
            token_embedding,
            pos_encoding,
            layer_norm: tensors.norm("embeddings.layer_norm")?,
            positions: config.positions,
            dropout: config.dropout,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|layer| build_layer(config, &mut tensors, layer))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embeddings,
            layers,
            final_norm: tensors.norm("final_norm")?,
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
    /// [`ModelError`] when the input is too long, holds an unknown id (checked on the CPU), has a
    /// mask of another shape, or asks for more steps than the model has.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        options: &ForwardOptions,
    ) -> Result<Output, ModelError> {
        let [batch, seq] = ids.dims();
        if seq > self.config.max_position_embeddings {
            return Err(ModelError::TooLong {
                found: seq,
                limit: self.config.max_position_embeddings,
            });
        }
        let fixed = self.config.resolve_depth(options.depth)?;
        let key_mask = self.key_mask(&ids, options)?;
        let mut x = self.embeddings.forward(ids, options.training);
        let mut steps = Vec::with_capacity(self.layers.len());
        let mut router_probs = Vec::new();
        for layer in &self.layers {
            let depths = match (fixed, &layer.router) {
                (Some(depth), _) => vec![depth; batch],
                (None, Some(router)) => {
                    let routing = router.forward(x.clone());
                    router_probs.push(routing.probs);
                    routing.steps
                }
                (None, None) => vec![layer.step_projections.len(); batch],
            };
            x = layer.forward(x, key_mask.as_ref(), &depths, options.training);
            steps.push(depths);
        }
        let total: usize = steps.iter().flatten().sum();
        Ok(Output {
            hidden: self.final_norm.forward(x),
            steps,
            router_probs,
            computation_loss: STEP_COST * total as f32,
        })
    }

    /// The keys that may be seen, `[batch, seq]`; `None` when that is known to be all of them.
    fn key_mask(
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
        ops::linear(hidden, self.head(), None)
    }

    /// Mean cross-entropy in nats, `[1]`, of `hidden: [batch, seq, dim]` against
    /// `targets: [batch, seq]`, over the targets that are not `ignore`; zero when there is none.
    /// Nothing of size `[batch, seq, vocab]` is ever made on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Shape`] when the shapes differ.
    pub fn loss(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        ignore: i64,
    ) -> Result<Tensor<1>, ModelError> {
        let (hidden, targets) = rows(hidden, targets)?;
        Ok(ops::linear_cross_entropy(
            hidden,
            self.head(),
            targets,
            ignore,
        ))
    }

    /// Cross-entropy in nats of each position, `[batch · seq]`, zero where the target is `ignore`;
    /// no gradient. Arguments and errors as in [`Self::loss`].
    ///
    /// # Errors
    /// [`ModelError::Shape`] when the shapes differ.
    pub fn losses(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        ignore: i64,
    ) -> Result<Tensor<1>, ModelError> {
        let (hidden, targets) = rows(hidden, targets)?;
        Ok(ops::linear_cross_entropy_losses(
            hidden.without_autodiff(),
            self.head().without_autodiff(),
            targets,
            ignore,
        ))
    }

    /// Weight of the output head, `[vocab, dim]`.
    fn head(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.embeddings.token_embedding.weight.val(),
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

fn build_layer(
    config: &ModelConfig,
    tensors: &mut Builder,
    layer: usize,
) -> Result<Layer, ModelError> {
    let at = |part: &str| format!("layers.{layer}.{part}");
    let router = if tensors.has(&at("router.complexity_classifier.0.weight")) {
        Some(Router {
            hidden: tensors.linear(&at("router.complexity_classifier.0"))?,
            classes: tensors.linear(&at("router.complexity_classifier.3"))?,
        })
    } else {
        None
    };
    Ok(Layer {
        router,
        step_projections: (0..config.routing.max_steps)
            .map(|step| tensors.linear(&at(&format!("step_projections.{step}"))))
            .collect::<Result<_, _>>()?,
        attention: Attention {
            w_q: tensors.linear(&at("attention.w_q"))?,
            w_k: tensors.linear(&at("attention.w_k"))?,
            w_v: tensors.linear(&at("attention.w_v"))?,
            w_o: tensors.linear(&at("attention.w_o"))?,
            heads: config.num_attention_heads,
            rope_theta: (config.positions == Positions::Rotary).then_some(config.rope_theta),
        },
        norm1: tensors.norm(&at("norm1"))?,
        feedforward: FeedForward {
            linear1: tensors.linear(&at("feedforward.linear1"))?,
            linear2: tensors.linear(&at("feedforward.linear2"))?,
        },
        norm2: tensors.norm(&at("norm2"))?,
        halted_rows: config.routing.halted_rows,
        dropout: config.dropout,
    })
}
