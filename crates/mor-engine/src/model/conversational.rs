//! The conversational model: pre-LN blocks applied once, then a shared one that recurs.

use mor_config::{ModelConfig, RouterKind};

use super::layer::{Block, Layer, NormOrder, Router};
use super::{Parts, Source};
use crate::Result;

pub(super) fn load<S: Source>(config: &ModelConfig, source: &S) -> Result<Parts<S::Matrix>> {
    let mut layers = Vec::with_capacity(config.num_hidden_layers + 1);
    for index in 0..config.num_hidden_layers {
        layers.push(Layer {
            block: block(config, source, &format!("layers.{index}"))?,
            recurs: false,
            router: None,
            step_projections: Vec::new(),
        });
    }
    let dim = config.hidden_size;
    let router = match config.routing.kind {
        RouterKind::Fixed => None,
        RouterKind::Adaptive => Some(Router {
            pooler: Some(source.linear("router.pooler", dim)?),
            hidden: source.linear("router.head.0", dim)?,
            output: source.linear("router.head.3", config.router_hidden())?,
        }),
    };
    layers.push(Layer {
        block: block(config, source, "rec_layer.block")?,
        recurs: true,
        router,
        step_projections: Vec::new(),
    });
    Ok(Parts {
        table: "embed",
        embedding_norm: None,
        layers,
        gates: Vec::new(),
        norm_order: NormOrder::Pre,
        final_norm: "ln_f",
    })
}

/// A block; those of a recursive model are the same.
pub(super) fn block<S: Source>(
    config: &ModelConfig,
    source: &S,
    name: &str,
) -> Result<Block<S::Matrix>> {
    let dim = config.hidden_size;
    let at = |part: &str| format!("{name}.{part}");
    let qkv = ["q_proj", "k_proj", "v_proj"].map(|part| at(&format!("attn.{part}.weight")));
    Ok(Block {
        qkv: source.qkv(qkv, dim)?,
        attention_output: source.linear_without_bias(&at("attn.out_proj"), dim)?,
        norm1: source.norm(&at("ln1"))?,
        linear1: source.linear_without_bias(&at("ff.fc1"), dim)?,
        linear2: source.linear_without_bias(&at("ff.fc2"), config.intermediate_size)?,
        norm2: source.norm(&at("ln2"))?,
    })
}
