//! The technical model: post-LN layers that all recur, with a projection before each step.

use mor_config::{ModelConfig, RouterKind};

use super::layer::{Block, Layer, NormOrder, Router};
use super::{Parts, Source};
use crate::Result;

pub(super) fn load<S: Source>(config: &ModelConfig, source: &S) -> Result<Parts<S::Matrix>> {
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for index in 0..config.num_hidden_layers {
        layers.push(layer(config, source, index)?);
    }
    Ok(Parts {
        table: "embeddings.token_embedding",
        embedding_norm: Some("embeddings.layer_norm"),
        layers,
        gates: Vec::new(),
        norm_order: NormOrder::Post,
        final_norm: "final_norm",
    })
}

fn layer<S: Source>(config: &ModelConfig, source: &S, index: usize) -> Result<Layer<S::Matrix>> {
    let dim = config.hidden_size;
    let at = |part: &str| format!("layers.{index}.{part}");
    let router = match config.routing.kind {
        RouterKind::Fixed => None,
        RouterKind::Adaptive => Some(Router {
            pooler: None,
            hidden: source.linear(&at("router.complexity_classifier.0"), dim)?,
            output: source.linear(
                &at("router.complexity_classifier.3"),
                config.router_hidden(),
            )?,
        }),
    };
    let mut step_projections = Vec::with_capacity(config.routing.max_steps);
    for step in 0..config.routing.max_steps {
        step_projections.push(source.linear(&at(&format!("step_projections.{step}")), dim)?);
    }
    let qkv = ["w_q", "w_k", "w_v"].map(|part| at(&format!("attention.{part}.weight")));
    Ok(Layer {
        block: Block {
            qkv: source.qkv(qkv, dim)?,
            attention_output: source.linear(&at("attention.w_o"), dim)?,
            norm1: source.norm(&at("norm1"))?,
            linear1: source.linear(&at("feedforward.linear1"), dim)?,
            linear2: source.linear(&at("feedforward.linear2"), config.intermediate_size)?,
            norm2: source.norm(&at("norm2"))?,
        },
        recurs: true,
        router,
        step_projections,
    })
}
