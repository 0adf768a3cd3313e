//! Modules from named tensors.

use std::collections::HashMap;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use mor_config::{Component, HaltedRows, ModelConfig, Pooling, Positions, TensorSpec};

use crate::embedding::{EmbeddingBand, Embeddings, PositionTable, TokenEmbedding};
use crate::{
    Attention, Block, FeedForward, Gate, Layer, LayerNorm, Linear, ModelError, Recursive, Router,
    Table,
};

/// Where initial values come from: a weights file or a seed.
pub(crate) type Source<'a> = dyn FnMut(&TensorSpec) -> Result<Vec<f32>, ModelError> + 'a;

/// Builds modules from named tensors, in the order of [`ModelConfig::tensors`].
pub(crate) struct Builder<'a> {
    config: &'a ModelConfig,
    specs: HashMap<String, TensorSpec>,
    source: &'a mut Source<'a>,
    device: &'a Device,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        config: &'a ModelConfig,
        source: &'a mut Source<'a>,
        device: &'a Device,
    ) -> Self {
        let specs = config.tensors().into_iter();
        Self {
            config,
            specs: specs.map(|spec| (spec.name.clone(), spec)).collect(),
            source,
            device,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.specs.contains_key(name)
    }

    fn param<const D: usize>(&mut self, name: &str) -> Result<Param<Tensor<D>>, ModelError> {
        // Callers name tensors of the configuration; a shape of zeros fits nothing a source gives.
        let spec = self.specs.get(name).cloned().unwrap_or(TensorSpec {
            name: name.to_owned(),
            shape: vec![0; D],
            component: Component::TokenEmbedding,
        });
        let values = (self.source)(&spec)?;
        if spec.shape.len() != D || spec.shape.iter().product::<usize>() != values.len() {
            return Err(ModelError::Shape {
                what: "a tensor of the weights",
                found: vec![values.len()],
                expected: spec.shape,
            });
        }
        Ok(Param::from_data(
            TensorData::new(values, spec.shape),
            self.device,
        ))
    }

    pub(crate) fn linear(&mut self, name: &str) -> Result<Linear, ModelError> {
        let weight = self.param(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) {
            Some(self.param(&bias)?)
        } else {
            None
        };
        Ok(Linear { weight, bias })
    }

    pub(crate) fn norm(&mut self, name: &str) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm {
            weight: self.param(&format!("{name}.weight"))?,
            bias: self.param(&format!("{name}.bias"))?,
            eps: self.config.layer_norm_eps,
        })
    }

    pub(crate) fn table(&mut self, name: &str) -> Result<Table, ModelError> {
        Ok(Table {
            weight: self.param(&format!("{name}.weight"))?,
        })
    }

    /// The input side of a model. `name` is that of the token embedding; the technical model has learned positions
    /// and a norm besides, under `embeddings`.
    pub(crate) fn embeddings(&mut self, name: &str) -> Result<Embeddings, ModelError> {
        let adaptive = self.config.adaptive_embedding.is_some();
        let mut bands = Vec::new();
        for (band, (ids, _)) in self.config.embedding_bands().into_iter().enumerate() {
            let (table, projection) = if adaptive {
                (
                    self.table(&format!("{name}.emb_layers.{band}"))?,
                    Some(self.linear(&format!("{name}.emb_projs.{band}"))?),
                )
            } else {
                (self.table(name)?, None)
            };
            bands.push(EmbeddingBand {
                table,
                projection,
                start: ids.start,
            });
        }
        let first = bands.remove(0);
        let pos_encoding = match self.config.positions {
            Positions::Learned => Some(PositionTable {
                pos_embedding: self.table("embeddings.pos_encoding.pos_embedding")?,
            }),
            Positions::Sinusoidal | Positions::Rotary => None,
        };
        let layer_norm = "embeddings.layer_norm";
        Ok(Embeddings {
            token_embedding: TokenEmbedding { first, rest: bands },
            pos_encoding,
            layer_norm: if self.has(&format!("{layer_norm}.weight")) {
                Some(self.norm(layer_norm)?)
            } else {
                None
            },
            positions: self.config.positions,
            dropout: self.config.dropout,
        })
    }

    /// The router whose linear layers have these names; none where depth is fixed.
    pub(crate) fn router(
        &mut self,
        pooler: Option<&str>,
        [hidden, classes]: [&str; 2],
    ) -> Result<Option<Router>, ModelError> {
        if !self.has(&format!("{hidden}.weight")) {
            return Ok(None);
        }
        Ok(Some(Router {
            pooler: pooler.map(|name| self.linear(name)).transpose()?,
            hidden: self.linear(hidden)?,
            classes: self.linear(classes)?,
            pooling: self.config.routing.pooling,
            class_steps: self.config.routing.steps_of_classes(),
            dropout: self.config.dropout,
        }))
    }

    fn attention(&mut self, [q, k, v, o]: [String; 4]) -> Result<Attention, ModelError> {
        Ok(Attention {
            w_q: self.linear(&q)?,
            w_k: self.linear(&k)?,
            w_v: self.linear(&v)?,
            w_o: self.linear(&o)?,
            heads: self.config.num_attention_heads,
            rope_theta: (self.config.positions == Positions::Rotary)
                .then_some(self.config.rope_theta),
        })
    }

    /// A layer of the technical model.
    pub(crate) fn layer(&mut self, layer: usize) -> Result<Layer, ModelError> {
        let at = |part: &str| format!("layers.{layer}.{part}");
        let classifier = ["0", "3"].map(|part| at(&format!("router.complexity_classifier.{part}")));
        let [hidden, classes] = &classifier;
        let routing = &self.config.routing;
        Ok(Layer {
            router: self.router(None, [hidden, classes])?,
            step_projections: (0..routing.max_steps)
                .map(|step| self.linear(&at(&format!("step_projections.{step}"))))
                .collect::<Result<_, _>>()?,
            attention: self.attention(
                ["w_q", "w_k", "w_v", "w_o"].map(|part| at(&format!("attention.{part}"))),
            )?,
            norm1: self.norm(&at("norm1"))?,
            feedforward: FeedForward {
                linear1: self.linear(&at("feedforward.linear1"))?,
                linear2: self.linear(&at("feedforward.linear2"))?,
            },
            norm2: self.norm(&at("norm2"))?,
            // Renormalising a position until the deepest one halts would tell it about later ones.
            halted_rows: match routing.pooling {
                Pooling::Prefix => HaltedRows::Freeze,
                Pooling::Sequence | Pooling::Real => routing.halted_rows,
            },
            dropout: self.config.dropout,
        })
    }

    /// The layers of the recursive model.
    pub(crate) fn recursive(&mut self) -> Result<Recursive, ModelError> {
        let config = self.config;
        let mut blocks = |part: &str, layers: usize| {
            (0..layers)
                .map(|layer| self.block(&format!("{part}.{layer}")))
                .collect::<Result<Vec<_>, _>>()
        };
        let prelude = blocks("prelude", config.num_prelude_layers)?;
        let core = blocks("core", config.num_core_layers)?;
        let coda = blocks("coda", config.num_coda_layers)?;
        let mut gates = Vec::new();
        for gate in 1..config.routing.max_steps {
            let name = format!("gates.{gate}");
            if self.has(&format!("{name}.weight")) {
                gates.push(Gate {
                    linear: self.linear(&name)?,
                    eps: config.layer_norm_eps,
                });
            }
        }
        Ok(Recursive {
            prelude,
            core,
            gates,
            coda,
            kv: config.routing.kv,
        })
    }

    /// A block of the conversational or recursive model.
    pub(crate) fn block(&mut self, name: &str) -> Result<Block, ModelError> {
        let at = |part: &str| format!("{name}.{part}");
        let projections = ["q_proj", "k_proj", "v_proj", "out_proj"];
        Ok(Block {
            ln1: self.norm(&at("ln1"))?,
            attention: self.attention(projections.map(|part| at(&format!("attn.{part}"))))?,
            ln2: self.norm(&at("ln2"))?,
            feedforward: FeedForward {
                linear1: self.linear(&at("ff.fc1"))?,
                linear2: self.linear(&at("ff.fc2"))?,
            },
            dropout: self.config.dropout,
        })
    }
}
