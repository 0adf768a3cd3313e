//! The recursive model: pre-LN blocks applied once, a core of blocks that loops, and blocks applied once.

use mor_config::{ModelConfig, RouterKind};

use super::conversational::block;
use super::layer::{Gate, Layer, NormOrder};
use super::{Parts, Source};
use crate::Result;

pub(super) fn load<S: Source>(config: &ModelConfig, source: &S) -> Result<Parts<S::Matrix>> {
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    let parts = [
        ("prelude", config.num_prelude_layers),
        ("core", config.num_core_layers),
        ("coda", config.num_coda_layers),
    ];
    for (part, count) in parts {
        for index in 0..count {
            layers.push(Layer {
                block: block(config, source, &format!("{part}.{index}"))?,
                recurs: part == "core",
                router: None,
                step_projections: Vec::new(),
            });
        }
    }
    let mut gates = Vec::new();
    if config.routing.kind == RouterKind::Adaptive {
        for gate in 1..config.routing.max_steps {
            let mut weight = source.values(&format!("gates.{gate}.weight"))?;
            gates.push(Gate {
                moved: weight.pop().unwrap_or(0.0),
                weight,
                bias: source.values(&format!("gates.{gate}.bias"))?.iter().sum(),
            });
        }
    }
    Ok(Parts {
        table: "embed",
        embedding_norm: None,
        layers,
        gates,
        norm_order: NormOrder::Pre,
        final_norm: "final_norm",
    })
}
