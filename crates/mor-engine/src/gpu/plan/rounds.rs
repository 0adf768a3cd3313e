//! Loops that a driver which plays a GPU on the processor would end early, see [`MOST_ROUNDS`].

use mor_shaders::MOST_ROUNDS;

use super::maker::Maker;
use super::mode::Mode;
use crate::gpu::weights::{GpuModel, RouterLayout, attention};
use crate::{EngineError, Result};

/// Columns that a single invocation adds up in several passes.
const MOST_COLUMNS: u64 = MOST_ROUNDS as u64 / 4;

/// Whether all kernels of a context run to their end, which other GPUs' always do.
///
/// # Errors
/// [`EngineError::GpuLimit`].
pub(crate) fn check_rounds(model: &GpuModel, mode: Mode) -> Result<()> {
    Maker { model, mode }.check_rounds()
}

impl Maker<'_> {
    fn check_rounds(&self) -> Result<()> {
        let gpu = &self.model.gpu;
        if !gpu.description().software {
            return Ok(());
        }
        let check = |what: &str, needed: u64, limit: u64| match needed <= limit {
            true => Ok(()),
            false => Err(EngineError::GpuLimit {
                adapter: gpu.description().to_string(),
                what: what.to_owned(),
                needed,
                limit,
                remedy: "use the CPU",
            }),
        };
        let (config, variant) = (&self.model.config, gpu.variant());
        let decode = self.attention_decode(true).most_keys(variant);
        let prefill = attention(config, false).most_keys(variant);
        check(
            "a context's positions, which attention loops over,",
            config.max_position_embeddings as u64,
            decode.min(prefill).into(),
        )?;
        check(
            "a row's values, which kernels loop over,",
            config.hidden_size.max(config.intermediate_size) as u64,
            MOST_COLUMNS,
        )?;
        let rounds = self.model.routers.as_ref().map_or(0, |routers| {
            let RouterLayout {
                pooler,
                hidden,
                classes,
                ..
            } = &routers.layout;
            let parts = pooler.iter().chain([hidden, classes]);
            let each: u64 = parts.map(|dense| dense.rounds()).sum();
            // One launch may ask them all.
            each * routers.layers.len() as u64
        });
        check(
            "the routers' loops, in rounds,",
            rounds,
            // Norm and means take the rest.
            u64::from(MOST_ROUNDS) / 2,
        )
    }
}
